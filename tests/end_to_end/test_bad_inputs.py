# ruff: noqa: E501 - the texts stand as people read them
"""What avsc_core/data/dataset.py and avsc_core/data/inspect.py say about bad data sets.

Each bad input stands with its one-line error, word for word; nothing wrong passes silently.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from avsc_core.config import Media
from avsc_core.data.dataset import read_dataset
from avsc_core.data.inspect import inspect, list_faults
from avsc_core.errors import UserError
from avsc_core.processes import no_progress
from tests.builders.commands import Done, run
from tests.builders.media import write_video

Break = Callable[[Path], None]


@pytest.fixture
def copy(scenes: Path, tmp_path: Path) -> Path:
    root = tmp_path / "data"
    shutil.copytree(scenes, root)
    return root


def first(root: Path, kind: str) -> Path:
    ending = "wav" if kind == "audio" else "mp4"
    row = (root / "evaluation_setup" / "fold1_train.csv").read_text().splitlines()[1]
    return root / kind / f"{Path(row.split(chr(9))[0]).stem}.{ending}"


def table(
    change: Callable[[list[str]], list[str]], name: str = "evaluation_setup/fold1_train.csv"
) -> Break:
    """Rewrite a table, its lines without line ends."""

    def breaks(root: Path) -> None:
        path = root / name
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return breaks


def cell(old: str, new: str, line: int = 1) -> Break:
    """Replace the first `old` of a line of the training table; `old` may be a pattern."""
    return table(
        lambda lines: [*lines[:line], re.sub(old, new, lines[line], count=1), *lines[line + 1 :]]
    )


def wav(write: Callable[[Path], None]) -> Break:
    return lambda root: write(first(root, "audio"))


def mp4(write: Callable[[Path], None]) -> Break:
    return lambda root: write(first(root, "video"))


def samples(
    seconds: float = 10.0, rate: int = 8000, value: float = 0.1, **how: str
) -> Callable[[Path], None]:
    return lambda path: soundfile.write(
        path, np.full(round(seconds * rate), value), rate, **({"format": "WAV"} | how)
    )


def replace(content: bytes) -> Callable[[Path], None]:
    return lambda path: [path.write_bytes(content)].clear()


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: (
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)]) and None
    )


def zeroed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 4)
    path.write_bytes(content)


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(len(content) // 10, len(content) * 9 // 10, 40):
        content[place] ^= 0xFF
    path.write_bytes(content)


def sound_only(path: Path) -> None:
    path.unlink()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def link(target: Callable[[Path], Path]) -> Callable[[Path], None]:
    def breaks(path: Path) -> None:
        goal = target(path)
        path.unlink()
        path.symlink_to(goal)

    return breaks


def outside(path: Path) -> Path:
    goal = path.parent.parent.parent / path.name
    shutil.copy(path, goal)
    return goal


def nan(path: Path) -> None:
    soundfile.write(path, np.array([0.0, np.nan] * 40000), 8000, subtype="FLOAT")


def repeat_in(other: str) -> Break:
    def breaks(root: Path) -> None:
        setup = root / "evaluation_setup"
        row = (setup / "fold1_train.csv").read_text().splitlines()[1]
        (setup / other).write_text((setup / other).read_text() + row + "\n")

    return breaks


def labels(**arrays: object) -> Break:
    def breaks(root: Path) -> None:
        with np.load(root / "labels.npz") as file:
            content = {name: file[name] for name in file}
        for name, change in arrays.items():
            content[name] = change(content[name])  # type: ignore[operator]
        np.savez(
            root / "labels.npz",
            **{name: array for name, array in content.items() if array is not None},
        )

    return breaks


SETUP = "DATA/evaluation_setup"
TRAIN = f"{SETUP}/fold1_train.csv"
AGAIN = "unpack it again or remove its row"
LENGTH = "10 s, give or take 0.05 s"
TEN = "a clip of 10 s"
DECODE = "mp4 or mov with a video track"

TABLES: dict[str, tuple[Break, str]] = {
    "no folder": (
        shutil.rmtree,
        "DATA: no such folder; give the folder that holds audio/ and video/",
    ),
    "no tables": (
        lambda root: shutil.rmtree(root / "evaluation_setup"),
        "DATA: not a TAU data set; evaluation_setup/fold1_train.csv at most three folders down, or clips.csv; "
        "`avsc-core demo-data DIR` writes one to look at",
    ),
    "no test table": (
        lambda root: (root / "evaluation_setup" / "fold1_evaluate.csv").unlink(),
        f"{SETUP}/fold1_evaluate.csv: no such file; both folds are needed: train and evaluate",
    ),
    "no audio folder": (
        lambda root: shutil.rmtree(root / "audio"),
        "DATA: no folder audio/; at most three folders down",
    ),
    "no video folder": (
        lambda root: shutil.rmtree(root / "video"),
        "DATA: no folder video/; at most three folders down",
    ),
    "empty table": (
        table(lambda lines: [""]),
        f"{TRAIN}:1: no column filename_audio, filename_video, scene_label; found an empty file; TAB-separated, with header",
    ),
    "commas": (
        table(lambda lines: [line.replace("\t", ",") for line in lines]),
        f"{TRAIN}:1: no column filename_audio, filename_video, scene_label; found filename_audio,filename_video,scene_label; "
        "TAB-separated, with header",
    ),
    "no header": (
        table(lambda lines: lines[1:]),
        f"{TRAIN}:1: no column filename_audio, filename_video, scene_label; found ROW; TAB-separated, with header",
    ),
    "no label column": (
        table(lambda lines: [line.rsplit("\t", 1)[0] for line in lines]),
        f"{TRAIN}:1: no column scene_label; found filename_audio, filename_video; TAB-separated, with header",
    ),
    "not text": (
        lambda root: (
            (root / "evaluation_setup" / "fold1_train.csv").write_bytes(
                b"filename_audio\t\xff\xfe\n"
            )
            and None
        ),
        f"{TRAIN}: not UTF-8 text (invalid start byte); save the table as UTF-8 (in Excel: CSV UTF-8)",
    ),
    "a column too few": (cell("\t[^\t]+$", ""), f"{TRAIN}:2: 2 columns; 3 as in the header"),
    "a column too many": (cell("$", "\tmore"), f"{TRAIN}:2: 4 columns; 3 as in the header"),
    "unknown scene": (
        cell("\tairport$", "\tairprt"),
        f"{TRAIN}:2: unknown scene 'airprt'; did you mean 'airport'?",
    ),
    "no scene": (
        cell("\tairport$", "\t"),
        f"{TRAIN}:2: unknown scene ''; one of airport, bus, metro, metro_station, park, public_square, shopping_mall, "
        "street_pedestrian, ... (10 in all)",
    ),
    "capital letters": (
        cell("\tairport$", "\tAirport"),
        f"{TRAIN}:2: unknown scene 'Airport'; did you mean 'airport'?",
    ),
    "wrong label": (
        cell("\tairport$", "\tbus"),
        f"{TRAIN}:2: CLIP is labelled bus; the scene that its name begins with",
    ),
    "parent folder": (
        cell("audio/", "../audio/"),
        f"{TRAIN}:2: '../audio/CLIP.wav' leaves the data folder; audio/NAME.wav",
    ),
    "absolute path": (
        cell("audio/", "/etc/"),
        f"{TRAIN}:2: '/etc/CLIP.wav' leaves the data folder; audio/NAME.wav",
    ),
    "address": (
        cell("video/", "http://host/"),
        f"{TRAIN}:2: 'http://host/CLIP.mp4' leaves the data folder; video/NAME.mp4",
    ),
    "file address": (
        cell("video/", "file:///etc/"),
        f"{TRAIN}:2: 'file:///etc/CLIP.mp4' leaves the data folder; video/NAME.mp4",
    ),
    "wav for video": (
        cell(r"\.mp4", ".wav"),
        f"{TRAIN}:2: 'video/CLIP.wav' is not a video file; video/NAME.mp4",
    ),
    "mp3 for audio": (
        cell(r"\.wav", ".mp3"),
        f"{TRAIN}:2: 'audio/CLIP.mp3' is not an audio file; audio/NAME.wav",
    ),
    "no ending": (
        cell(r"\.wav", ""),
        f"{TRAIN}:2: 'audio/CLIP' is not an audio file; audio/NAME.wav",
    ),
    "empty name": (cell(r"^[^\t]+", ""), f"{TRAIN}:2: '' is not an audio file; audio/NAME.wav"),
    "a part too few": (
        table(lambda lines: [lines[0], lines[1].replace("-0.", "."), *lines[2:]]),
        f"{TRAIN}:2: 'SHORT' is not a clip name; scene-city-location-segment",
    ),
    "an empty part": (
        table(lambda lines: [lines[0], re.sub(r"-[a-z]+-", "--", lines[1]), *lines[2:]]),
        f"{TRAIN}:2: 'HOLLOW' is not a clip name; scene-city-location-segment",
    ),
    "another clip's video": (
        lambda root: table(
            lambda lines: [
                lines[0],
                "\t".join([lines[1].split("\t")[0], *lines[2].split("\t")[1:]]),
                *lines[2:],
            ]
        )(root),
        f"{TRAIN}:2: audio CLIP beside video SECOND; the same name for both",
    ),
    "twice in a table": (
        table(lambda lines: [*lines, lines[1]]),
        f"{TRAIN}:22: CLIP is given twice; keep one of its rows",
    ),
    "in both tables": (
        repeat_in("fold1_evaluate.csv"),
        f"{SETUP}/fold1_evaluate.csv:12: CLIP is given twice; keep one of its rows",
    ),
    "one location on both sides": (
        table(
            lambda lines: [re.sub(r"^(\S*airport-.*)\t\S+$", r"\1\tx-1", line) for line in lines],
            "meta.csv",
        ),
        "x-1: location in both train and test; keep it on one side",
    ),
    "no wav": (
        wav(Path.unlink),
        f"{TRAIN}:2: DATA/audio/CLIP.wav does not exist; unpack it again or remove the row",
    ),
    "no mp4": (
        mp4(Path.unlink),
        f"{TRAIN}:2: DATA/video/CLIP.mp4 does not exist; unpack it again or remove the row",
    ),
    "a folder for a file": (
        wav(lambda path: [path.unlink(), path.mkdir()].clear()),
        f"{TRAIN}:2: DATA/audio/CLIP.wav does not exist; unpack it again or remove the row",
    ),
    "a link out": (
        wav(link(outside)),
        f"{TRAIN}:2: DATA/audio/CLIP.wav is a link out of the data folder; put the file there",
    ),
    "a link to nothing": (
        mp4(link(lambda path: Path("/nowhere"))),
        f"{TRAIN}:2: DATA/video/CLIP.mp4 does not exist; unpack it again or remove the row",
    ),
    "a link to itself": (
        mp4(link(lambda path: path)),
        f"{TRAIN}:2: DATA/video/CLIP.mp4 does not exist; unpack it again or remove the row",
    ),
}

LABELS: dict[str, tuple[Break, str]] = {
    "no label file": (
        lambda root: (root / "labels.npz").unlink(),
        "DATA/labels.npz: no label file; an .npz with the events and objects of every clip",
    ),
    "rubbish": (
        lambda root: (root / "labels.npz").write_bytes(b"rubbish") and None,
        "DATA/labels.npz: not a label file (it has pickled objects, which could run code); arrays clips, events, objects, "
        "event_names, object_names",
    ),
    "a torn file": (
        lambda root: cut(0.5)(root / "labels.npz"),
        "DATA/labels.npz: not a label file (File is not a zip file); arrays clips, events, objects, event_names, "
        "object_names",
    ),
    "no events": (
        labels(events=lambda array: None),
        "DATA/labels.npz: not a label file ('events is not a file in the archive'); arrays clips, events, objects, "
        "event_names, object_names",
    ),
    "a row too few": (
        labels(events=lambda array: array[1:]),
        "DATA/labels.npz: events (29, 64), objects (30, 64) for 30 clips",
    ),
    "a name too few": (
        labels(event_names=lambda array: array[1:]),
        "DATA/labels.npz: events (30, 64), objects (30, 64) for 30 clips",
    ),
    "a clip without labels": (
        labels(clips=lambda array: np.array(["another", *array[1:]])),
        "DATA/labels.npz: 1 of 30 clips have no labels, first CLIP; label every clip",
    ),
}

MEDIA: dict[str, tuple[Break, str]] = {
    "empty wav": (wav(replace(b"")), f"CLIP.wav: is empty; {TEN}; {AGAIN}"),
    "text for wav": (wav(replace(b"hello")), "CLIP.wav: cannot be read as wav (Format not recognised.); PCM or float wav"),
    "html for wav": (wav(replace(b"<!DOCTYPE html>404")), "CLIP.wav: cannot be read as wav (Format not recognised.); PCM or float wav"),
    "zeros for wav": (wav(replace(bytes(10000))), "CLIP.wav: cannot be read as wav (Format not recognised.); PCM or float wav"),
    "mp3 called wav": (wav(samples(format="MP3")), "CLIP.wav: is MP3 with MPEG_LAYER_III; wav with PCM or float samples"),
    "flac called wav": (wav(samples(format="FLAC")), "CLIP.wav: is FLAC with PCM_16; wav with PCM or float samples"),
    "ogg called wav": (wav(samples(format="OGG")), "CLIP.wav: is OGG with VORBIS; wav with PCM or float samples"),
    "aiff called wav": (wav(samples(format="AIFF")), "CLIP.wav: is AIFF with PCM_16; wav with PCM or float samples"),
    "adpcm": (wav(samples(subtype="IMA_ADPCM")), "CLIP.wav: is WAV with IMA_ADPCM; wav with PCM or float samples"),
    "mp4 called wav": (
        lambda root: shutil.copy(first(root, "video"), first(root, "audio")) and None,
        "CLIP.wav: cannot be read as wav (Format not recognised.); PCM or float wav",
    ),
    "no samples": (wav(samples(seconds=0)), f"CLIP.wav: has no samples; {AGAIN}"),
    "one sample": (wav(samples(seconds=1 / 8000)), f"CLIP.wav: is 0.00 s long; {LENGTH}; {AGAIN}, or --set media.short=pad"),
    "half a wav": (wav(cut(0.5)), f"CLIP.wav: is 5.00 s long; {LENGTH}; {AGAIN}, or --set media.short=pad"),
    "header of a wav": (wav(lambda path: path.write_bytes(path.read_bytes()[:44]) and None), f"CLIP.wav: has no samples; {AGAIN}"),
    "60 ms too short": (wav(samples(seconds=9.94)), f"CLIP.wav: is 9.94 s long; {LENGTH}; {AGAIN}, or --set media.short=pad"),
    "60 ms too long": (wav(samples(seconds=10.06)), f"CLIP.wav: is 10.06 s long; {LENGTH}; {AGAIN}, or --set media.long=crop"),
    "a minute": (wav(samples(seconds=60)), f"CLIP.wav: is 60.00 s long; {LENGTH}; {AGAIN}, or --set media.long=crop"),
    "no numbers": (wav(nan), f"CLIP.wav: has samples that are not numbers; {AGAIN}"),
    "infinite": (wav(samples(value=np.inf, subtype="FLOAT")), f"CLIP.wav: has samples that are not numbers; {AGAIN}"),
    "an integer scale": (
        wav(samples(value=2.5e6, subtype="FLOAT")),
        "CLIP.wav: has samples up to 2.5e+06; -1 to 1, at most 16; "
        "float samples on an integer scale? divide them by 32768 (of 16 bits)",
    ),
    "a peak below zero": (
        wav(samples(value=-17.0, subtype="DOUBLE")),
        "CLIP.wav: has samples up to 17; -1 to 1, at most 16; "
        "float samples on an integer scale? divide them by 32768 (of 16 bits)",
    ),
    "empty mp4": (mp4(replace(b"")), f"CLIP.mp4: is empty; {TEN}; {AGAIN}"),
    "text for mp4": (mp4(replace(b"hello")), f"CLIP.mp4: cannot be decoded (WHY); {DECODE}"),
    "zeros for mp4": (mp4(lambda path: path.write_bytes(bytes(path.stat().st_size)) and None), f"CLIP.mp4: cannot be decoded (WHY); {DECODE}"),
    "half an mp4": (mp4(cut(0.5)), f"CLIP.mp4: cannot be decoded (WHY); {DECODE}"),
    "most of an mp4": (mp4(cut(0.95)), f"CLIP.mp4: cannot be decoded (WHY); {DECODE}"),
    "zeros in the middle": (mp4(zeroed), f"CLIP.mp4: cannot be decoded (WHY); {DECODE}"),
    "flipped bytes": (mp4(flipped), f"CLIP.mp4: cannot be decoded (WHY); {DECODE}"),
    "sound only": (mp4(sound_only), "CLIP.mp4: has no video track that can be decoded; mp4 or mov with pictures"),
    "wav called mp4": (
        lambda root: shutil.copy(first(root, "audio"), first(root, "video")) and None,
        f"CLIP.mp4: cannot be decoded (WHY); {DECODE}",
    ),
    "a picture called mp4": (mp4(replace(b"\x89PNG\r\n\x1a\n" + bytes(100))), f"CLIP.mp4: cannot be decoded (WHY); {DECODE}"),
    "a playlist": (
        mp4(replace(b"#EXTM3U\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n")), f"CLIP.mp4: cannot be decoded (WHY); {DECODE}"
    ),
    "a list of files": (mp4(replace(b"ffconcat version 1.0\nfile /etc/passwd\n")), f"CLIP.mp4: cannot be decoded (WHY); {DECODE}"),
    "one frame": (mp4(lambda path: write_video(path, seconds=0.1) and None), f"CLIP.mp4: is 0.10 s long; {LENGTH}; {AGAIN}, or --set media.short=pad"),
    "five seconds": (mp4(lambda path: write_video(path, seconds=5) and None), f"CLIP.mp4: is 5.00 s long; {LENGTH}; {AGAIN}, or --set media.short=pad"),
    "twelve seconds": (mp4(lambda path: write_video(path, seconds=12) and None), f"CLIP.mp4: is 12.00 s long; {LENGTH}; {AGAIN}, or --set media.long=crop"),
}  # fmt: skip


def plain(text: object, root: Path, original: list[str]) -> str:
    """An error text without what changes from run to run."""
    clip, second = (Path(row.split("\t")[0]).stem for row in original[1:3])
    text = str(text).replace(str(root), "DATA").replace("\t", ", ")
    text = (
        text.replace(original[1].replace("\t", ", "), "ROW")
        .replace(clip, "CLIP")
        .replace(second, "SECOND")
    )
    text = re.sub(r"'airport-[a-z]+-0'", "'SHORT'", text)
    text = re.sub(r"'airport--0-0'", "'HOLLOW'", text)
    text = re.sub(r"\S+(CLIP\.\w+: )", r"\1", re.sub(r"^\S+ (CLIP\.\w+: )", r"\1", text))
    return re.sub(r"cannot be decoded \(.*?\);", "cannot be decoded (WHY);", text)


@pytest.mark.parametrize("name", TABLES | LABELS)
def test_bad_tables_and_labels(name: str, copy: Path):
    breaks, expected = (TABLES | LABELS)[name]
    original = (copy / "evaluation_setup" / "fold1_train.csv").read_text().splitlines()
    breaks(copy)
    with pytest.raises(UserError) as caught:
        read_dataset(copy)
    assert expected in [plain(fault, copy, original) for fault in caught.value.faults]


@pytest.mark.parametrize("name", MEDIA)
def test_bad_media(name: str, copy: Path, monkeypatch: pytest.MonkeyPatch):
    breaks, expected = MEDIA[name]
    original = (copy / "evaluation_setup" / "fold1_train.csv").read_text().splitlines()
    for fold in ("fold1_train.csv", "fold1_evaluate.csv"):  # of all clips the first is enough
        path = copy / "evaluation_setup" / fold
        path.write_text(
            "\n".join(path.read_text().splitlines()[: 2 if "train" in fold else 1]) + "\n"
        )
    breaks(copy)
    seen = inspect(copy, Media(), deep=True, workers=1, progress=no_progress)
    assert [plain(fault, copy, original) for fault in list_faults(seen)] == [expected]


def test_there_are_at_least_sixty():
    assert len(TABLES) + len(LABELS) + len(MEDIA) >= 60


def test_check_shows_all_and_can_leave_bad_clips_out(copy: Path):
    def check(*more: str) -> Done:
        return run(copy.parent, "avsc-core", "check", str(copy), *more)

    good = check("--deep")
    assert good.code == 0, good.err
    for text in (
        "20 train, 10 test (30 of the 12291 of TAU 2021)",
        "h264 at 10 frames a second: 30",
        "nothing wrong",
    ):
        assert text in good.out
    first(copy, "audio").write_bytes(b"")
    first(copy, "video").write_bytes(b"rubbish")
    bad = check()
    assert bad.code == 2
    assert "2 faults" in bad.out
    lines = [line for line in bad.err.splitlines() if "fold1_train.csv:2" in line]
    assert len(lines) == 2
    assert check("--skip-bad").code == 0
    assert len(read_dataset(copy).clips) == 29
    assert list(read_dataset(copy).skipped) == [first(copy, "audio").stem]
    assert "1 clips are left out by skip.tsv" in check().out
