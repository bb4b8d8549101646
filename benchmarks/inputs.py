"""How fast do clips become features, what does the second epoch wait for, and what do more readers cost?

Eight clips as TAU has them: 10 s, 48 kHz stereo 24-bit wav, H.264 at 30 frames a second, 1280 x 720; features of preset
`paper`; one core. Rivals: the bare decode loops of soundfile and PyAV, which nothing can beat, and the straightforward
pipeline of torchaudio and torchvision, which transforms every frame that it decodes and keeps ten. Then the time to
gather an epoch's batches from the store, and the memory that the store takes in 1, 2, 4 and 8 processes that have read
all of it (PSS of its pages, which counts a shared page once; Linux).
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import torch
import torchaudio
from torchvision.transforms import functional as pictures

from avsc_core.config import Media
from avsc_core.data.batches import IMAGENET, Inputs, iterate_batches
from avsc_core.data.clip_features import compute_frames, compute_log_mel
from avsc_core.data.dataset import DataSet
from avsc_core.data.features import Features
from avsc_core.data.logmel import AUDIOSET
from avsc_core.data.tables import Clip
from avsc_core.labels import SCENES
from avsc_core.resolve import resolve
from benchmarks.report import keep

CLIPS, STORED = 8, 64  # written as files; rows of the store that is read
CONFIG = resolve("paper")


def write_clip(folder: Path, number: int) -> Clip:
    """A clip of noise and moving gradients."""
    rng = np.random.default_rng(number)
    path = folder / f"{number}.wav"
    soundfile.write(path, 0.1 * rng.standard_normal((480_000, 2)), 48000, subtype="PCM_24")
    video = folder / f"{number}.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        row = np.add.outer(np.arange(720), np.arange(1280))
        for frame in range(300):
            picture = np.stack(
                [(row + shift * frame + 40 * number) % 256 for shift in (1, 2, 3)], 2
            ).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return Clip(str(number), path, video, 0, "x-1", "train")


def ours(clip: Clip) -> None:
    """Both features."""
    compute_log_mel(clip, CONFIG.log_mel, Media())
    compute_frames(clip, CONFIG.pictures, Media())


def bare(clip: Clip) -> None:
    """Decoding alone."""
    soundfile.read(clip.audio, dtype="float32")
    with av.open(str(clip.video)) as container:
        for _ in container.decode(video=0):
            pass


def straightforward(clip: Clip) -> None:
    """Every frame transformed, ten kept."""
    samples, rate = soundfile.read(clip.audio, dtype="float32", always_2d=True)
    mono = torchaudio.functional.resample(torch.from_numpy(samples).mean(1), rate, 16000)
    torchaudio.compliance.kaldi.fbank(
        mono[None], sample_frequency=16000, num_mel_bins=128, window_type="hamming"
    )
    with av.open(str(clip.video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    shown = [
        pictures.center_crop(
            pictures.resize(torch.from_numpy(frame).permute(2, 0, 1), [232], antialias=True), [224]
        )
        for frame in frames
    ]
    torch.stack(shown)[12::30]


def clips_a_second(way: Callable[[Clip], None], clips: list[Clip]) -> float:
    """On one core."""
    way(clips[0])
    start = time.perf_counter()
    for clip in clips:
        way(clip)
    return len(clips) / (time.perf_counter() - start)


def store(folder: Path) -> Inputs:
    """Stored features of 64 clips, memory-mapped."""
    arrays = {}
    for name, shape, dtype in (
        ("log_mel", (STORED, 1024, 128), np.float32),
        ("frames", (STORED, 10, 3, 224, 224), np.uint8),
    ):
        path = folder / f"{name}.npy"
        if not path.exists():
            np.save(path, np.random.default_rng(0).integers(0, 255, shape).astype(dtype))
        arrays[name] = np.load(path, mmap_mode="r")
    clips = [Clip(str(row), Path(), Path(), row % 10, str(row), "train") for row in range(STORED)]
    events, objects = np.zeros((STORED, 527), np.uint8), np.zeros((STORED, 1000), np.uint8)
    data = DataSet(Path(), clips, events, objects, [], [], SCENES, {}, [], [], "", embedded=True)
    return Inputs(
        Features(data, arrays["log_mel"], arrays["frames"], events, objects), AUDIOSET, IMAGENET
    )


def read_epoch(inputs: Inputs) -> float:
    """Seconds to gather and normalise an epoch's batches."""
    start = time.perf_counter()
    for _ in iterate_batches(
        inputs, np.random.default_rng(0).permutation(STORED), 16, torch.device("cpu")
    ):
        pass
    return time.perf_counter() - start


def reader(folder: Path, ready: Any, measured: Any, pss: Any) -> None:
    """A process that has read the whole store once."""
    torch.set_num_threads(1)
    inputs = store(folder)
    read_epoch(inputs)
    ready.wait()
    inside, total = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):  # the head of a mapping, with its file's name
            inside = str(folder) in line
        elif inside and line.startswith("Pss:"):
            total += int(line.split()[1])
    pss.put(total / 1024)
    measured.wait()


def memory(folder: Path, readers: int) -> float:
    """MiB of the store's pages in so many readers together."""
    context = multiprocessing.get_context("spawn")
    ready, measured, pss = context.Barrier(readers), context.Barrier(readers), context.Queue()
    running = [
        context.Process(target=reader, args=(folder, ready, measured, pss)) for _ in range(readers)
    ]
    for process in running:
        process.start()
    total = sum(pss.get() for _ in running)
    for process in running:
        process.join()
    return float(total)


def row(what: str, value: float, unit: float) -> dict[str, Any]:
    """A line of the table; the ratio is to our decoding, or to one reader."""
    return {"what": what, "value": value, "ratio": value / unit}


def main() -> None:
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = [write_clip(folder, number) for number in range(CLIPS)]
        rates = {way.__name__: clips_a_second(way, clips) for way in (bare, ours, straightforward)}
        for way, rate in rates.items():
            rows.append(row(f"{way}: clips a second and core", rate, rates["ours"]))
        inputs = store(folder)
        read_epoch(inputs)
        second = STORED / read_epoch(inputs)
        rows.append(row("second epoch: clips a second and core", second, rates["ours"]))
        del inputs  # or this process would share the pages too
        size = (
            sum((folder / f"{array}.npy").stat().st_size for array in ("log_mel", "frames")) / 2**20
        )
        one = memory(folder, 1)
        for readers in (1, 2, 4, 8):
            total = one if readers == 1 else memory(folder, readers)
            what = f"{readers} readers of a store of {size:.0f} MiB: its MiB in all together"
            rows.append(row(what, total, one))
    keep("inputs", "from files to batches", rows)


if __name__ == "__main__":
    main()
