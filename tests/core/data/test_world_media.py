"""Files as cameras and editors write them: late tracks, mirrored pictures, covers, odd rates.

They are read by avsc_core/data/media.py and turned by avsc_core/data/upright.py.
"""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torchaudio
from av.stream import Disposition
from torch import Tensor

from avsc_core.config import Media
from avsc_core.data import media
from avsc_core.data.inspect import inspect
from avsc_core.data.media import (
    MAX_LATE,
    Lengths,
    has_sound,
    probe_audio,
    probe_video,
    read_audio,
    read_frames,
)
from avsc_core.errors import UserError
from avsc_core.evaluation.evaluate import find_pair
from avsc_core.processes import no_progress
from tests.builders.media import write_video

MILLISECOND = Fraction(1, 1000)


def write_timed(path: Path, times: list[float], last: float = 0.1, sound_at: float | None = None):
    """Write a video whose picture n is 2 n grey levels bright and shown at times[n].

    The last one is shown for `last` seconds. With `sound_at` the file has sound that begins then.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"qp": "0", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv444p"
        video.time_base = MILLISECOND
        sound = None if sound_at is None else container.add_stream("aac", rate=16000)
        packets = []
        for number, time in enumerate(times):
            picture = np.full((64, 64, 3), 2 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = round(1000 * time), MILLISECOND
            packets += video.encode(frame)
        packets += video.encode()
        for packet, time, then in zip(packets, times, [*times[1:], times[-1] + last], strict=True):
            packet.duration = round((then - time) / packet.time_base)
            container.mux(packet)
        if sound is not None:
            for number in range(16):
                samples = np.zeros((1, 1024), np.float32)
                frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
                frame.sample_rate = 16000
                frame.pts = round(16000 * sound_at) + 1024 * number
                frame.time_base = Fraction(1, 16000)
                container.mux(sound.encode(frame))
            container.mux(sound.encode())


def read_numbers(path: Path) -> list[int]:
    """Read which picture is shown in each of ten seconds, 0.4 s after its beginning."""
    brightness = read_frames(path, 10, 0.4, 32, 32).float().mean((1, 2, 3)).tolist()
    return [round(value / 2) for value in brightness]


EVERY_TENTH = [4 + 10 * second for second in range(10)]


@pytest.mark.parametrize("start", [0.0, 0.3, 5.0, 100.0])
def test_times_count_from_the_beginning_of_the_file(tmp_path: Path, start: float):
    """Editors cut a clip out of a recording and keep its time stamps."""
    path = tmp_path / "a.mp4"
    write_timed(path, [start + number / 10 for number in range(100)])
    assert read_numbers(path) == EVERY_TENTH


@pytest.mark.parametrize("late", [0.0, 0.04, 0.2])
def test_tracks_of_a_telephone_begin_a_little_apart(tmp_path: Path, late: float):
    path = tmp_path / "a.mp4"
    write_timed(path, [late + number / 10 for number in range(100)], sound_at=0.0)
    # Where the encoder lets the sound begin decides about one picture.
    shown = np.array(read_numbers(path))
    assert np.abs(shown - np.array(EVERY_TENTH) + 10 * late).max() <= 1


def test_pictures_that_begin_late_are_told_by_the_header(tmp_path: Path):
    path = tmp_path / "a.mp4"
    write_timed(path, [5 + number / 10 for number in range(100)], sound_at=0.0)
    told = rf"its pictures begin 5\.00 s after the beginning of the file; at most {MAX_LATE:g} s"
    for read in (probe_video, read_numbers):
        with pytest.raises(UserError, match=told):
            read(path)


def test_a_last_picture_may_last_long(tmp_path: Path):
    """At a variable frame rate a still end is one picture."""
    path = tmp_path / "a.mp4"
    write_timed(path, [number / 10 for number in range(60)], last=4.0)
    assert read_numbers(path) == [*EVERY_TENTH[:6], 59, 59, 59, 59]


# The eight ways to show a picture: matrix [[a, b], [c, d]] -> where the bright corner, which is
# stored at the top left, and the darker one, stored at the top right, are shown.
WAYS = {
    (1, 0, 0, 1): ("top left", "top right"),
    (0, 1, -1, 0): ("top right", "bottom right"),
    (-1, 0, 0, -1): ("bottom right", "bottom left"),
    (0, -1, 1, 0): ("bottom left", "top left"),
    (-1, 0, 0, 1): ("top right", "top left"),
    (1, 0, 0, -1): ("bottom left", "bottom right"),
    (0, 1, 1, 0): ("top left", "bottom left"),
    (0, -1, -1, 0): ("bottom right", "top right"),
}


def write_shown(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a video with two corners of other brightness, to be shown as the matrix says."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48], picture[:32, 48:] = 220, 110
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv444p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    a, b, c, d = (number << 16 for number in matrix)
    # The matrix follows version and flags, times, ids, duration, layer and volume.
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)


@pytest.mark.parametrize("matrix", WAYS)
def test_pictures_are_turned_and_mirrored_as_a_player_does(
    tmp_path: Path, matrix: tuple[int, int, int, int]
):
    write_shown(tmp_path / "a.mp4", matrix)
    picture = read_frames(tmp_path / "a.mp4", 1, 0.4, 32, 32)[0].float().mean(0)  # (32,32)
    corners = {
        "top left": picture[:10, :10],
        "top right": picture[:10, -10:],
        "bottom left": picture[-10:, :10],
        "bottom right": picture[-10:, -10:],
    }
    by_brightness = sorted(corners, key=lambda corner: -float(corners[corner].mean()))
    assert tuple(by_brightness[:2]) == WAYS[matrix]


def list_boxes(content: bytes) -> list[bytes]:
    """Divide a part of an mp4 file into its boxes, each with its length first."""
    boxes = []
    while content:
        (length,) = struct.unpack(">I", content[:4])
        boxes.append(content[:length])
        content = content[length:]
    return boxes


def move_cover_first(content: bytes) -> bytes:
    """Put the box with the cover before the tracks, which leaves all lengths as they are."""
    boxes = list_boxes(content)
    for place, box in enumerate(boxes):
        if box[4:8] == b"moov":
            inside = sorted(list_boxes(box[8:]), key=lambda part: part[4:8] != b"udta")
            boxes[place] = box[:8] + b"".join(inside)
    return b"".join(boxes)


def test_a_cover_is_not_the_video(tmp_path: Path):
    """A still picture for lists of files stands before the video track."""
    write_video(tmp_path / "plain.mp4")
    path = tmp_path / "a.mp4"
    with av.open(str(tmp_path / "plain.mp4")) as source, av.open(str(path), "w") as target:
        video = target.add_stream_from_template(source.streams.video[0])
        cover = target.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = "yuvj420p"
        cover.disposition = Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 255, np.uint8))
        target.mux(cover.encode(picture.reformat(format="yuvj420p")))
        target.mux(cover.encode())
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = video
                target.mux(packet)
    path.write_bytes(move_cover_first(path.read_bytes()))
    with av.open(str(path)) as container:
        first = container.streams.video[0]
        assert first.disposition & Disposition.attached_pic, "the cover must stand first"
    assert probe_video(path).codec == "h264"
    assert read_numbers(path) == EVERY_TENTH


@pytest.mark.parametrize("rate", [44101, 47999, 11027, 96001])
def test_an_odd_rate_is_resampled_by_small_numbers(
    tmp_path: Path, rate: int, monkeypatch: pytest.MonkeyPatch
):
    """The memory of the filter grows with both; 44,101 : 16,000 would take 2.8 GB."""
    ratios = []

    def resample(samples: Tensor, orig: int, new: int) -> Tensor:
        ratios.append((orig, new))
        return torchaudio.functional.resample(samples, orig, new)

    monkeypatch.setattr(media, "resample", resample)
    time = np.arange(rate * 2) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * time), rate)
    samples = read_audio(tmp_path / "a.wav", 16000)
    assert abs(len(samples) - 32000) <= 2
    assert np.abs(np.fft.rfft(samples[:32000].numpy())).argmax() / 2 == 440
    (ratio,) = ratios
    assert max(ratio) <= 6000


@pytest.mark.parametrize("rate", [8, 2_000_000_000])
def test_a_rate_that_no_microphone_has(tmp_path: Path, rate: int):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), rate)
    told = rf"a\.wav: has {rate} samples a second; 1000 to 1000000"
    with pytest.raises(UserError, match=told):
        read_audio(tmp_path / "a.wav", 16000)


def write_sound_film(path: Path, seconds: float = 10.0, late: float = 0.0) -> Path:
    """Write a film with a tone of 440 Hz in two channels, which begins `late` seconds late."""
    rate = 44100
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10, options={"qp": "0"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv444p"
        sound = container.add_stream("aac", rate=rate, layout="stereo")
        for number in range(round(seconds * 10)):
            picture = np.full((64, 64, 3), 2 * number % 256, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(video.encode())
        time = np.arange(round((seconds - late) * rate)) / rate
        tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        for start in range(0, len(tone), 1024):
            block = np.tile(tone[start : start + 1024], (2, 1))
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = rate, round(late * rate) + start
            frame.time_base = Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.MOV"])
def test_the_sound_of_a_film(tmp_path: Path, name: str):
    path = write_sound_film(tmp_path / "film.mp4").rename(tmp_path / name)
    info = probe_audio(path)
    assert (info.rate, info.channels, info.encoding) == (44100, 2, "aac")
    assert info.seconds == pytest.approx(10, abs=0.05)
    samples = read_audio(path, 16000)
    assert len(samples) == pytest.approx(160_000, abs=1600)
    assert np.abs(np.fft.rfft(samples[:32000].numpy())).argmax() / 2 == 440
    assert samples.abs().max() == pytest.approx(0.5, abs=0.05)


def test_sound_that_begins_late_stays_where_it_was(tmp_path: Path):
    samples = read_audio(write_sound_film(tmp_path / "a.mp4", late=2.0), 16000)
    loud = np.flatnonzero(samples.abs().numpy() > 0.1)
    assert loud[0] / 16000 == pytest.approx(2.0, abs=0.1)


def test_a_film_without_sound(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4")
    assert not has_sound(path)
    with pytest.raises(UserError, match=r"a\.mp4: has no sound that can be decoded; mp4 or mov"):
        read_audio(path, 16000)
    with pytest.raises(UserError, match=r"no \.wav of that name; .* or is a video with sound"):
        find_pair(path)


def test_a_film_with_sound_is_a_clip(tmp_path: Path):
    path = write_sound_film(tmp_path / "a.mp4")
    assert find_pair(path) == (path, path)
    assert find_pair(tmp_path / "a") == (path, path)
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.zeros(16000), 16000)
    assert find_pair(path) == (wav, path)  # a wav beside it is meant
    # The file that was named is one of the two, whatever else lies beside it.
    other = write_sound_film(tmp_path / "b.mp4").rename(tmp_path / "a.mov")
    assert find_pair(other) == (wav, other)
    assert find_pair(path) == (wav, path)


def test_no_more_is_decoded_than_a_clip_holds(tmp_path: Path):
    """The header may say ten seconds of a track that has minutes."""
    path = write_sound_film(tmp_path / "a.mp4", seconds=60.0)
    content = bytearray(path.read_bytes())
    # The header of the track: version, times, samples a second, length.
    place = content.index(struct.pack(">I", 44100), content.rindex(b"mdhd")) + 4
    content[place : place + 4] = struct.pack(">I", 10 * 44100)
    path.write_bytes(content)
    assert probe_audio(path).seconds == pytest.approx(10, abs=0.1)
    assert len(read_audio(path, 16000)) <= 160_000 + 1600


def test_a_gap_in_the_sound_is_silent(tmp_path: Path):
    path = tmp_path / "a.mp4"
    rate = 16000
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=rate, layout="mono")
        tone = (0.3 * np.sin(np.arange(1024) / 5)).astype(np.float32)[None]
        for number in range(156):
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            # Two seconds are missing in the middle.
            frame.pts = 1024 * number + (32000 if number >= 78 else 0)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    loud = np.abs(read_audio(path, rate, Lengths("pad", "crop", 12.0)).numpy()) > 0.05
    assert loud[: 4 * rate].mean() > 0.5
    assert not loud[round(5.3 * rate) : round(6.7 * rate)].any()
    assert loud[round(7.3 * rate) : 11 * rate].mean() > 0.5


def test_a_data_set_of_films(tmp_path: Path):
    rows = ["audio,video,scene,group,split"]
    for number in range(4):
        write_sound_film(tmp_path / f"{number}.mp4")
        split = "test" if number > 1 else "train"
        rows.append(f"{number}.mp4,{number}.mp4,{'ab'[number % 2]},g{number},{split}")
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    found = inspect(tmp_path, Media(), deep=True, workers=1, progress=no_progress)
    assert len(found.clips) == 4
    assert (found.faults, found.bad) == ([], {})
