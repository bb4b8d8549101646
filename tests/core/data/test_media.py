"""Tests of media files: rates, channels, times of frames, refusals, and kaldi's own log-mel."""

import struct
import wave
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from torchaudio.compliance.kaldi import fbank

from avsc_core.data import media
from avsc_core.data.logmel import AUDIOSET, convert_to_log_mel, normalise
from avsc_core.data.media import Lengths, read_audio, read_frames
from avsc_core.errors import UserError
from tests.builders.media import write_video


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_tone_keeps_its_pitch(tmp_path: Path, rate: int, channels: int):
    time = np.arange(rate * 2) / rate
    tone = np.repeat(0.5 * np.sin(2 * np.pi * 440 * time)[:, None], channels, 1)
    soundfile.write(tmp_path / "a.wav", tone, rate, subtype="PCM_24")
    samples = read_audio(tmp_path / "a.wav", 16000)
    assert samples.shape == (32000,)
    assert samples.dtype == torch.float32
    assert np.abs(np.fft.rfft(samples.numpy())).argmax() / 2 == 440
    assert samples.abs().max() == pytest.approx(0.5, abs=0.02)


def test_channels_are_averaged(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.tile([[0.5, -0.25]], (1000, 1)), 16000, subtype="FLOAT")
    assert torch.allclose(read_audio(tmp_path / "a.wav", 16000), torch.tensor(0.125))


def test_bad_audio(tmp_path: Path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.wav: cannot be read as wav"):
        read_audio(path, 16000)
    with wave.open(str(path), "wb") as empty:
        empty.setparams((1, 2, 16000, 0, "NONE", ""))
    with pytest.raises(UserError, match=r"a\.wav: has no samples"):
        read_audio(path, 16000)
    soundfile.write(path, np.array([0.0, np.nan]), 16000, subtype="FLOAT")
    with pytest.raises(UserError, match="not numbers"):
        read_audio(path, 16000)


@pytest.mark.parametrize(("count", "offset"), [(10, 0.4), (4, 0.4), (1, 0.0), (5, 1.05)])
def test_frames_are_chosen_by_time(tmp_path: Path, count: int, offset: float):
    frames = read_frames(write_video(tmp_path / "a.mp4"), count, offset, 32, 32)
    assert frames.shape == (count, 3, 32, 32)
    assert frames.dtype == torch.uint8
    brightness = []
    for index in range(count):
        number = int((offset + index * 10 / count) * 10 + 1e-9)  # ten frames a second
        brightness.append(2 * number)
    assert frames.float().mean((1, 2, 3)).tolist() == pytest.approx(brightness, abs=1.5)


def test_a_short_video_repeats_its_last_frame(tmp_path: Path):
    frames = read_frames(write_video(tmp_path / "a.mp4", seconds=3), 10, 0.4, 32, 32)
    assert torch.equal(frames[9], frames[3])
    assert not torch.equal(frames[1], frames[3])


def test_a_playlist_in_disguise_is_refused(tmp_path: Path):
    write_video(tmp_path / "other.mp4")
    lie = tmp_path / "a.mp4"
    lie.write_text(f"#EXTM3U\n#EXTINF:10,\n{tmp_path / 'other.mp4'}\n#EXT-X-ENDLIST\n")
    with pytest.raises(UserError, match=r"a\.mp4: cannot be decoded"):
        read_frames(lie, 1, 0.0, 32, 32)


def test_a_sound_without_pictures_is_refused(tmp_path: Path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UserError, match=r"a\.mp4: has no video track"):
        read_frames(tmp_path / "a.mp4", 1, 0.0, 32, 32)


@pytest.mark.parametrize("window", ["hamming", "hanning"])
def test_log_mel_is_kaldis(window: str):
    samples = torch.randn(160000, generator=torch.Generator().manual_seed(0)) * 0.1
    ours = convert_to_log_mel(samples, 16000, window)
    reference = fbank(
        (samples - samples.mean())[None],
        htk_compat=True,
        sample_frequency=16000,
        use_energy=False,
        window_type=window,
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
    )
    assert reference.shape == (998, 128)
    assert torch.equal(ours[:998], reference)
    assert torch.equal(ours[998:], torch.zeros(26, 128))


def test_log_mel_equals_asts_own_features():
    """Compare with Hugging Face's feature extractor: the same frames, padding and normalisation."""
    transformers = pytest.importorskip("transformers")
    samples = torch.randn(160000, generator=torch.Generator().manual_seed(1)) * 0.1
    extractor = transformers.ASTFeatureExtractor()
    inputs = extractor(samples.numpy(), sampling_rate=16000, return_tensors="pt")
    theirs = inputs.input_values[0]  # (1024,128)
    ours = normalise(convert_to_log_mel(samples, 16000, "hanning"), AUDIOSET)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_peak_ignores_loudness():
    samples = torch.randn(16000, generator=torch.Generator().manual_seed(2))
    loud = convert_to_log_mel(samples * 0.5, 16000, peak=True)
    quiet = convert_to_log_mel(samples * 0.01, 16000, peak=True)
    assert torch.allclose(loud, quiet, atol=1e-3)


def write_rotated(path: Path, degrees: int) -> None:
    """Write a video whose left half is bright, with a display matrix that turns it.

    Telephones write their videos like this.
    """
    plain = write_video(path.with_name("plain.mp4"), seconds=1, size=(96, 64))
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, :48] = 200
    with av.open(str(plain), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0"})
        stream.width = 96
        stream.height = 64
        stream.pix_fmt = "yuv444p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())

    # Overwrite the display matrix in the file.
    content = bytearray(plain.read_bytes())
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    # The matrix follows version and flags, times, ids, duration, layer and volume.
    start = content.index(b"tkhd") + 4 + 40
    content[start : start + 36] = matrix
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("degrees", "bright"), [(0, "left"), (90, "top"), (180, "right"), (270, "bottom")]
)
def test_rotation_is_honoured(tmp_path: Path, degrees: int, bright: str):
    """The matrix turns clockwise: what was left is on top after 90 degrees."""
    write_rotated(tmp_path / "a.mp4", degrees)
    picture = read_frames(tmp_path / "a.mp4", 1, 0.4, 32, 32)[0].float().mean(0)  # (32,32)
    halves = {
        "left": picture[:, :14],
        "right": picture[:, 18:],
        "top": picture[:14],
        "bottom": picture[18:],
    }
    assert max(halves, key=lambda side: float(halves[side].mean())) == bright


def test_a_variable_frame_rate_goes_by_time_stamps(tmp_path: Path):
    """Show ten frames in the first second, then one a second; frame i is the one at i + 0.4 s."""
    times = [number / 10 for number in range(10)]
    times += [float(number) for number in range(1, 10)]
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0", "bf": "0"})
        stream.width = 64
        stream.height = 64
        stream.pix_fmt = "yuv444p"
        stream.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * number, np.uint8))
            frame.pts = round(1000 * time)
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = read_frames(tmp_path / "a.mp4", 10, 0.4, 32, 32)
    brightness = []
    for second in range(10):
        shown = max(index for index, time in enumerate(times) if time <= second + 0.4)
        brightness.append(10 * shown)
    assert frames.float().mean((1, 2, 3)).tolist() == pytest.approx(brightness, abs=1.5)


@pytest.mark.parametrize("size", [(97, 65), (33, 200), (1, 1)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]):
    write_video(tmp_path / "a.mp4", seconds=1, size=size)
    assert read_frames(tmp_path / "a.mp4", 2, 0.0, 40, 32).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("seconds", "lengths", "kept"),
    [
        (479_999 / 48000, Lengths(), 159_999),
        (480_001 / 48000, Lengths(), 160_000),
        (9.96, Lengths(), 159_360),
        (10.04, Lengths(), 160_640),
        (6.0, Lengths("pad", "error"), 96_000),
        (12.5, Lengths("error", "crop"), 160_000),
        (1.0, Lengths(seconds=1.0), 16_000),
    ],
)
def test_lengths(tmp_path: Path, seconds: float, lengths: Lengths, kept: int):
    soundfile.write(tmp_path / "a.wav", np.zeros(round(seconds * 48000)), 48000, subtype="PCM_24")
    assert len(read_audio(tmp_path / "a.wav", 16000, lengths)) == pytest.approx(kept, abs=1)


@pytest.mark.parametrize("seconds", [0.5, 9.9, 10.1, 700.0])
def test_other_lengths_are_faults(tmp_path: Path, seconds: float):
    soundfile.write(tmp_path / "a.wav", np.zeros(round(seconds * 8000)), 8000)
    with pytest.raises(UserError, match=r"s long; 10 s, give or take 0.05 s"):
        read_audio(tmp_path / "a.wav", 16000, Lengths())


def test_no_policy_opens_what_is_far_too_long(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000 * 601), 8000)
    with pytest.raises(UserError, match=r"is 601\.00 s long"):
        read_audio(tmp_path / "a.wav", 16000, Lengths("pad", "crop"))


@pytest.mark.parametrize(
    ("cap", "name"), [("MAX_BYTES", "a.wav"), ("MAX_BYTES", "a.mp4"), ("MAX_PIXELS", "a.mp4")]
)
def test_what_no_clip_can_be_is_not_decoded(
    tmp_path: Path, cap: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    soundfile.write(tmp_path / "a.wav", np.zeros(80000), 8000)
    write_video(tmp_path / "a.mp4", seconds=1)
    monkeypatch.setattr(media, cap, 1000)
    text = "has pictures of 96 x 64" if cap == "MAX_PIXELS" else "MiB; a clip of 10 s"
    read = partial(read_audio, tmp_path / name, 8000)
    if name.endswith("mp4"):
        read = partial(read_frames, tmp_path / name, 1, 0.0, 32, 32)
    with pytest.raises(UserError, match=text):
        read()
