# ruff: noqa: E501 - the texts stand as people read them
"""Tests of reading a data set: layouts, tolerances, faults, splits."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avsc_core.config import Split
from avsc_core.data.dataset import DataSet, read_dataset, split_rows
from avsc_core.data.tables import Clip
from avsc_core.data.tau import read_clips, read_unlabelled
from avsc_core.errors import UserError
from avsc_core.labels import SCENES


@pytest.fixture
def copy(scenes: Path, tmp_path: Path) -> Path:
    """Copy the data set, so that a test may damage it."""
    root = tmp_path / "data"
    shutil.copytree(scenes, root, copy_function=shutil.copy)
    return root


def faults(root: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        read_dataset(root)
    return [str(fault).replace(str(root), "DATA") for fault in caught.value.faults]


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_embedded_scenes(data: DataSet):
    assert len(data.clips) == 30
    assert {SCENES[clip.scene] for clip in data.clips} == set(SCENES)
    assert data.events.shape == data.objects.shape == (30, 64)


@pytest.mark.parametrize("layout", ["nested", "meta", "raw"])
def test_layouts(copy: Path, layout: str):
    expected = read_dataset(copy)
    moves = {
        "nested": {
            "evaluation_setup": "TAU.meta/evaluation_setup",
            "meta.csv": "TAU.meta/meta.csv",
        },
        "meta": {"evaluation_setup": "meta/evaluation_setup", "meta.csv": "meta/meta.csv"},
        "raw": {
            "evaluation_setup": "metadata/evaluation_setup",
            "audio": "raw/audio",
            "video": "raw/video",
        },
    }[layout]
    for old, new in moves.items():
        (copy / new).parent.mkdir(parents=True, exist_ok=True)
        (copy / old).rename(copy / new)
    found = read_dataset(copy)
    assert [clip.name for clip in found.clips] == [clip.name for clip in expected.clips]
    assert [clip.location for clip in found.clips] == [clip.location for clip in expected.clips]


@pytest.mark.parametrize("change", ["crlf", "bom", "filename"])
def test_tolerances(copy: Path, change: str):
    table = copy / "evaluation_setup" / "fold1_train.csv"
    text = table.read_text()
    if change == "crlf":
        table.write_bytes(text.replace("\n", "\r\n").encode())
    elif change == "bom":
        table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    else:
        table.write_text(text.replace("filename_audio", "filename", 1))
    assert len(read_dataset(copy).clips) == 30


def test_all_faults_at_once(copy: Path):
    train = copy / "evaluation_setup" / "fold1_train.csv"
    rows = train.read_text().splitlines()
    _, second = (Path(row.split("\t")[0]).stem for row in rows[1:3])
    scene = rows[1].split("\t")[2]
    edit(train, f"\t{scene}\n", f"\t{scene[:-1]}\n")
    (copy / "video" / f"{second}.mp4").unlink()
    train.write_text(train.read_text() + rows[3] + "\n")
    (copy / "labels.npz").unlink()
    assert faults(copy) == [
        f"DATA/evaluation_setup/fold1_train.csv:2: unknown scene '{scene[:-1]}'; did you mean '{scene}'?",
        f"DATA/evaluation_setup/fold1_train.csv:3: DATA/video/{second}.mp4 does not exist; "
        "unpack it again or remove the row",
        f"DATA/evaluation_setup/fold1_train.csv:{len(rows) + 1}: {Path(rows[3].split(chr(9))[0]).stem} is given twice; "
        "keep one of its rows",
        "DATA/labels.npz: no label file; an .npz with the events and objects of every clip",
    ]


def test_a_location_on_both_sides_is_refused(copy: Path):
    setup = copy / "evaluation_setup"
    moved = (setup / "fold1_evaluate.csv").read_text().splitlines()[1]
    name = Path(moved.split("\t")[0]).stem
    train_name = Path((setup / "fold1_train.csv").read_text().splitlines()[1].split("\t")[0]).stem
    location = "-".join(train_name.split("-")[1:3])
    edit(copy / "meta.csv", "-".join(name.split("-")[1:3]) + "\n", location + "\n")
    assert faults(copy)[0] == f"{location}: location in both train and test; keep it on one side"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("audio/", "../audio/", "leaves the data folder; audio/NAME"),
        ("filename_audio\t", "", "no column filename_audio"),
        ("-", "_", "is not a clip name; scene-city-location-segment"),
    ],
)
def test_bad_rows(copy: Path, old: str, new: str, fault: str):
    edit(copy / "evaluation_setup" / "fold1_train.csv", old, new)
    assert any(fault in text for text in faults(copy))


def test_a_missing_or_foreign_folder(tmp_path: Path):
    assert "DATA: no such folder; give the folder that holds audio/ and video/" in faults(
        tmp_path / "absent"
    )
    with pytest.raises(UserError, match="not a TAU data set"):
        read_dataset(tmp_path)


def test_a_layout_file_says_where_the_parts_are(copy: Path, tmp_path: Path):
    expected = read_dataset(copy)
    moves = {
        "audio": "elsewhere/sounds",
        "video": "films",
        "evaluation_setup": "tables",
        "meta.csv": "m.csv",
    }
    for old, new in moves.items():
        (tmp_path / new).parent.mkdir(parents=True, exist_ok=True)
        (copy / old).rename(tmp_path / new)
    (copy / "layout.yaml").write_text(
        f"audio: ../elsewhere/sounds\nvideo: {tmp_path / 'films'}\nsetup: ../tables\nmeta: ../m.csv\n"
    )
    found = read_dataset(copy)
    assert [clip.name for clip in found.clips] == [clip.name for clip in expected.clips]
    assert found.fingerprint == expected.fingerprint
    assert found.clips[0].audio.is_relative_to(copy / ".." / "elsewhere")


def test_a_layout_file_that_is_wrong(copy: Path):
    (copy / "layout.yaml").write_text("audoi: audio\nvideo: nowhere\nsetup: audio\n")
    assert faults(copy) == [
        "DATA/layout.yaml:1: unknown key 'audoi'; did you mean 'audio'?",
        "DATA/layout.yaml:2: video: DATA/nowhere does not exist; a path from the data set's folder",
        "DATA/layout.yaml:3: setup: no fold1_train.csv in DATA/audio; a path from the data set's folder",
    ]


def test_a_bad_meta_table_is_no_secret(copy: Path):
    edit(copy / "meta.csv", "identifier", "place")
    assert any("meta.csv:1: no column identifier" in text for text in faults(copy))


def write_complete(root: Path, moved: int = 0) -> None:
    """Write TAU's tables at their published size, with empty media files.

    Those are 8,646 and 3,645 clips at 305 and 126 locations; `moved` clips change from train to test.
    """
    rows: dict[str, list[str]] = {"train": [], "test": []}
    place = 0
    for split, clips, places in (("train", 8646 - moved, 305), ("test", 3645 + moved, 126)):
        for number in range(clips):
            location = place + number % places
            scene = SCENES[location % 10]
            city = ("barcelona", "helsinki", "lisbon", "lyon")[location % 4]
            name = f"{scene}-{city}-{location}-{number}"
            rows[split].append(f"audio/{name}.wav\tvideo/{name}.mp4\t{scene}")
        place += places
    for folder in ("audio", "video", "evaluation_setup"):
        (root / folder).mkdir(parents=True)
    header = "filename_audio\tfilename_video\tscene_label"
    for table, split in (("fold1_train", "train"), ("fold1_evaluate", "test")):
        path = root / "evaluation_setup" / f"{table}.csv"
        path.write_text("\n".join([header, *rows[split]]) + "\n")
    for row in (*rows["train"], *rows["test"]):
        for name in row.split("\t")[:2]:
            (root / name).touch()


def test_the_complete_set_is_as_published(tmp_path: Path):
    write_complete(tmp_path / "whole")
    clips, found, _ = read_clips(tmp_path / "whole")
    assert found == []
    assert len({clip.name for clip in clips}) == 12291
    assert sum(clip.split == "train" for clip in clips) == 8646
    assert sum(clip.split == "test" for clip in clips) == 3645
    assert len({clip.location for clip in clips}) == 431
    write_complete(tmp_path / "moved", moved=1)
    _, found, _ = read_clips(tmp_path / "moved")
    assert [fault.what for fault in found] == [
        "train has 8645 clips at 305 locations",
        "test has 3646 clips at 126 locations",
    ]


def made_up(places: int) -> DataSet:
    """Make up clips of `places` training locations a scene, two at each, without files."""
    clips = []
    for index, scene in enumerate(SCENES):
        for place in range(places):
            location = f"x-{scene}{place}"
            for segment in range(2):
                name = f"{scene}-{location}-{segment}"
                clips.append(Clip(name, Path(), Path(), index, location, "train"))
    empty = np.zeros((len(clips), 2), np.uint8)
    return DataSet(
        root=Path("made-up"),
        clips=clips,
        events=empty,
        objects=empty,
        event_names=["a", "b"],
        object_names=["a", "b"],
        scene_names=SCENES,
        scores={},
        sounds=[],
        films=[],
        fingerprint="0",
        embedded=False,
    )


def find_locations(data: DataSet, rows: np.ndarray, scene: int | None = None) -> set[str]:
    """Find the locations of some rows, or of those that show one scene."""
    clips = [data.clips[row] for row in rows]
    return {clip.location for clip in clips if scene in (None, clip.scene)}


@given(st.integers(2, 40), st.floats(0.01, 0.99), st.integers(0, 9))
def test_validation_is_cut_by_location(places: int, share: float, seed: int):
    data = made_up(places)
    train, validation, test = split_rows(data, Split(validation=share, seed=seed))
    assert sorted([*train, *validation]) == list(range(len(data.clips)))
    assert len(test) == 0
    assert not find_locations(data, train) & find_locations(data, validation)
    for scene in range(10):
        held = find_locations(data, validation, scene)
        assert len(held) == min(max(1, round(share * places)), places - 1)


@given(st.integers(2, 6), st.integers(0, 3), st.integers(0, 9))
def test_folds_hold_every_location_once(folds: int, more: int, seed: int):
    data = made_up(folds + more)
    held: list[str] = []
    for fold in range(folds):
        train, validation, _ = split_rows(
            data, Split(rule="fold", fold=fold, folds=folds, seed=seed)
        )
        assert not find_locations(data, train) & find_locations(data, validation)
        assert len({data.clips[row].scene for row in validation}) == 10
        held += find_locations(data, validation)
    assert sorted(held) == sorted({clip.location for clip in data.clips})


def test_too_few_locations_for_the_folds():
    with pytest.raises(
        UserError, match="airport has 3 training locations; 5 or more, one for each fold"
    ):
        split_rows(made_up(3), Split(rule="fold", folds=5))


def test_the_baselines_rule(tmp_path: Path):
    """Draw for training until nine tenths of a scene's clips are reached, scene after scene.

    All scenes draw from one generator.
    """
    data = made_up(23)
    train, validation, _ = split_rows(data, Split(rule="baseline"))
    rng = random.Random(30)
    for index, scene in enumerate(SCENES):
        locations = [f"x-{scene}{place}" for place in range(23)]
        left = sorted(locations, key=lambda location: location.split("-")[-1])
        count = 0
        while count < int(0.9 * 46):
            chosen = rng.choice(range(len(left)))
            left.pop(chosen)
            count += 2
        assert find_locations(data, validation, index) == set(left)
    assert not find_locations(data, train) & find_locations(data, validation)


def test_one_location_cannot_be_split():
    with pytest.raises(UserError) as caught:
        split_rows(made_up(1), Split())
    assert len(caught.value.faults) == 10


def test_the_fingerprint_sees_labels_and_sizes(copy: Path):
    before = read_dataset(copy).fingerprint
    assert read_dataset(copy).fingerprint == before
    victim = next((copy / "video").glob("*.mp4"))
    victim.write_bytes(victim.read_bytes() + b"\0")
    assert read_dataset(copy).fingerprint != before


def test_files_may_be_links_inside_the_data_folder(copy: Path):
    """git-annex and DataLad keep the files in a hidden folder, under their hashes."""
    store = copy / ".git/annex/objects"
    store.mkdir(parents=True)
    for number, file in enumerate(sorted((copy / "audio").iterdir())):
        file.rename(store / str(number))
        file.symlink_to(Path("../.git/annex/objects") / str(number))
    assert len(read_dataset(copy).clips) == len(list((copy / "audio").iterdir()))


def test_an_evaluation_set_from_a_mac(copy: Path):
    """macOS writes ._NAME beside a file on the disks of other systems."""
    shutil.rmtree(next(path.parent for path in copy.rglob("fold1_train.csv")))
    for folder, ending in (("audio", ".wav"), ("video", ".mp4")):
        for file in sorted((copy / folder).iterdir()):
            (copy / folder / f"._{file.name}").write_bytes(b"metadata")
            file.rename(file.with_suffix(ending.upper()))
    clips = read_unlabelled(copy)
    assert len(clips) > 0
    assert all(clip.audio.suffix == ".WAV" and clip.video.suffix == ".MP4" for clip in clips)
    assert not any(clip.name.startswith(".") for clip in clips)
