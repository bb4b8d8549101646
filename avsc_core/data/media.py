"""Media files -> samples and pictures: soundfile reads wav, PyAV decodes mp4, torchaudio and torchvision resample.

`read_audio`: path -> (n,) float32 mono at the wanted rate. `read_frames`: path -> (F,3,H,W) uint8 at the wanted times.
Only containers are opened that hold media themselves: an .mp4 that is really a playlist naming other files or
addresses is refused, because the container is named and the only protocol allowed is a local file.
"""

from pathlib import Path

import av
import numpy as np
import soundfile
import torch
from torchaudio.functional import resample
from torchvision.transforms import functional as pictures

from avsc_core.errors import Fault, UserError

CLIP_SECONDS = 10.0


def read_audio(path: Path, sample_rate: int) -> torch.Tensor:
    """(n,) float32 samples of a wav file in [-1, 1], channels averaged, at `sample_rate` Hz. Raises UserError."""
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)  # (n, channels)
    except (soundfile.LibsndfileError, OSError) as error:
        raise UserError(Fault(str(path), f"cannot be read as wav ({error})", "PCM or float wav")) from None
    if not len(samples) or not np.isfinite(samples).all():
        what = "has samples that are not numbers" if len(samples) else "has no samples"
        raise UserError(Fault(str(path), what, todo="unpack it again or remove its row"))
    mono = torch.from_numpy(samples).mean(1)  # (n,)
    return mono if rate == sample_rate else resample(mono, rate, sample_rate)


def read_frames(path: Path, count: int, offset_s: float, resize: int, size: int) -> torch.Tensor:
    """(F,3,size,size) uint8: the frame shown at offset_s + i * 10 s / count for i = 0 .. count - 1.

    Resized (bilinear, antialiased) so that the shorter side is `resize`, then the centre is cut out, as torchvision's
    weights expect. A video that ends early repeats its last frame. Raises UserError when nothing can be decoded.
    """
    times = [offset_s + index * CLIP_SECONDS / count for index in range(count)]
    chosen: list[torch.Tensor] = []
    last = None
    try:
        with av.open(str(path), format="mov", options={"protocol_whitelist": "file"}) as container:
            for frame in container.decode(video=0):
                # A frame is shown until the next one begins, so time stamps decide, not frame numbers.
                while len(chosen) < count and last is not None and frame.time > times[len(chosen)]:
                    chosen.append(_picture(last, resize, size))
                last = frame
                if len(chosen) == count:
                    break
    except (av.FFmpegError, IndexError, OSError) as error:
        raise UserError(Fault(str(path), f"cannot be decoded ({error})", "mp4 or mov with a video track")) from None
    if last is None:
        raise UserError(Fault(str(path), "has no frames", todo="unpack it again or remove its row"))
    chosen += [_picture(last, resize, size)] * (count - len(chosen))
    return torch.stack(chosen)  # (F,3,H,W)


def _picture(frame: av.VideoFrame, resize: int, size: int) -> torch.Tensor:
    """(3,size,size) uint8."""
    picture = torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1)  # (3,H,W)
    cropped: torch.Tensor = pictures.center_crop(pictures.resize(picture, [resize], antialias=True), [size, size])
    return cropped
