"""Media files whose contents are known."""

from pathlib import Path

import av
import numpy as np
import soundfile


def write_video(
    path: Path, seconds: float = 10.0, rate: int = 10, size: tuple[int, int] = (96, 64)
) -> Path:
    """Write a video whose brightness tells its time: frame n is 2 n grey levels bright."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"qp": "0"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p"

        for number in range(round(seconds * rate)):
            picture = np.full((size[1], size[0], 3), 2 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


def write_evaluation_set(root: Path, count: int) -> None:
    """Write unlabelled one-second clips 0.wav, 1.wav ... in the layout of the challenge."""
    for kind in ("audio", "video"):
        (root / kind).mkdir(parents=True)

    rng = np.random.default_rng(0)
    for number in range(count):
        noise = 0.1 * rng.standard_normal((48000, 2))
        soundfile.write(root / "audio" / f"{number}.wav", noise, 48000, "PCM_24")
        write_video(root / "video" / f"{number}.mp4", seconds=1)
