"""How fast do clips become features, how fast is the second epoch, and what do more readers cost?

Eight clips are written as TAU has them: 10 s, 48 kHz stereo 24-bit wav, H.264 at 30 frames a
second, 1280 x 720. One core computes the features of preset `paper`. The rivals are the bare decode
loops of soundfile and PyAV, which nothing can beat, and the straightforward pipeline of torchaudio
and torchvision, which transforms every frame that it decodes and keeps ten.

Measured after that are the time to gather an epoch's batches from the store, for models of both
modalities and of one, and the memory that the store takes in 1, 2, 4 and 8 processes that have read
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
from torch import Tensor
from torchvision.transforms import functional as pictures

from avsc_core.config import Media
from avsc_core.data.batches import Inputs, iterate_batches
from avsc_core.data.clip_features import compute_frames, compute_log_mel
from avsc_core.data.features import Features
from avsc_core.data.logmel import AUDIOSET
from avsc_core.data.tables import Clip
from avsc_core.resolve import resolve
from avsc_core.weights.preparation import IMAGENET
from benchmarks.data import make_data
from benchmarks.report import keep

CLIPS = 8  # written as files
STORED = 64  # rows of the store that is read
BATCH_SIZE = 16
LOG_MEL_SHAPE = (STORED, 1024, 128)
FRAMES_SHAPE = (STORED, 10, 3, 224, 224)
CONFIG = resolve("paper")


def main() -> None:
    """Measure decoding, the second epoch and shared memory, and keep the result."""
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = measure_speed(folder)
        rows += measure_shared_memory(folder)
    keep("inputs", "from files to batches", rows)


def measure_speed(folder: Path) -> list[dict[str, Any]]:
    """Measure decoding, three ways, and the second epoch, against our decoding."""
    rows = []

    # From files to features.
    clips = [write_clip(folder, number) for number in range(CLIPS)]
    rates = {way.__name__: measure_rate(way, clips) for way in (bare, ours, straightforward)}
    for way, rate in rates.items():
        rows.append(make_row(f"{way}: clips a second and core", rate, rates["ours"]))

    # From the store to batches; the first epoch warms up.
    inputs = open_store(folder)
    time_epoch(inputs)
    rate = STORED / time_epoch(inputs)
    rows.append(make_row("second epoch: clips a second and core", rate, rates["ours"]))

    # The same for models of one modality, which read nothing of the other; rival: reading both.
    both = time_epoch(inputs)
    singles = {
        "sound": inputs.features._replace(frames=None),
        "pictures": inputs.features._replace(log_mel=None),
    }
    for name, features in singles.items():
        single = inputs._replace(features=features)
        milliseconds = 1000 * time_epoch(single) * BATCH_SIZE / STORED
        what = f"a batch of {BATCH_SIZE} of {name} alone: ms"
        rows.append(make_row(what, milliseconds, 1000 * both * BATCH_SIZE / STORED))
    return rows


def measure_shared_memory(folder: Path) -> list[dict[str, Any]]:
    """Measure the memory of the store in several processes, against a single one.

    This process must hold no features of the store, or it would share the pages too.
    """
    files = [folder / "log_mel.npy", folder / "frames.npy"]
    size = sum(file.stat().st_size for file in files) / 2**20  # MiB
    one = measure_memory(folder, readers=1)

    rows = []
    for readers in (1, 2, 4, 8):
        total = one if readers == 1 else measure_memory(folder, readers)
        what = f"{readers} readers of a store of {size:.0f} MiB: its MiB in all together"
        rows.append(make_row(what, total, one))
    return rows


def write_clip(folder: Path, number: int) -> Clip:
    """Write a clip of noise and moving gradients."""
    # The sound: noise.
    rng = np.random.default_rng(number)
    samples = 0.1 * rng.standard_normal((480_000, 2))  # (T,2)
    audio = folder / f"{number}.wav"
    soundfile.write(audio, samples, 48000, subtype="PCM_24")

    # The pictures: a gradient that moves at another speed in each channel.
    video = folder / f"{number}.mp4"
    gradient = np.add.outer(np.arange(720), np.arange(1280))  # (H,W)
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width = 1280
        stream.height = 720
        stream.pix_fmt = "yuv420p"

        for frame in range(300):
            channels = [(gradient + shift * frame + 40 * number) % 256 for shift in (1, 2, 3)]
            picture = np.stack(channels, 2).astype(np.uint8)  # (H,W,3)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())

    return Clip(
        name=str(number),
        audio=audio,
        video=video,
        scene=0,
        location="x-1",
        split="train",
    )


def ours(clip: Clip) -> None:
    """Compute both features."""
    compute_log_mel(clip, CONFIG.log_mel, Media())
    compute_frames(clip, CONFIG.pictures, Media())


def bare(clip: Clip) -> None:
    """Decode, and do nothing else."""
    soundfile.read(clip.audio, dtype="float32")
    with av.open(str(clip.video)) as container:
        for _ in container.decode(video=0):
            pass


def straightforward(clip: Clip) -> None:
    """Compute a log-mel, transform every frame and keep ten."""
    samples, rate = soundfile.read(clip.audio, dtype="float32", always_2d=True)
    mono = torch.from_numpy(samples).mean(1)  # (T,)
    resampled = torchaudio.functional.resample(mono, rate, 16000)
    torchaudio.compliance.kaldi.fbank(
        resampled[None],
        sample_frequency=16000,
        num_mel_bins=128,
        window_type="hamming",
    )

    with av.open(str(clip.video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    torch.stack([transform_frame(frame) for frame in frames])[12::30]


def transform_frame(frame: np.ndarray) -> Tensor:
    """Resize and crop a frame (H,W,3) to (3,224,224)."""
    picture = torch.from_numpy(frame).permute(2, 0, 1)  # (3,H,W)
    resized = pictures.resize(picture, [232], antialias=True)
    return pictures.center_crop(resized, [224])  # type: ignore[no-any-return]


def measure_rate(way: Callable[[Clip], None], clips: list[Clip]) -> float:
    """Return the clips a second on one core."""
    # The first call warms up.
    way(clips[0])

    start = time.perf_counter()
    for clip in clips:
        way(clip)
    return len(clips) / (time.perf_counter() - start)


def open_store(folder: Path) -> Inputs:
    """Open stored features of 64 clips, memory-mapped; write them the first time."""
    events = np.zeros((STORED, 527), np.uint8)
    objects = np.zeros((STORED, 1000), np.uint8)
    data = make_data(events, objects)
    features = Features(
        data=data,
        log_mel=open_array(folder / "log_mel.npy", LOG_MEL_SHAPE, np.float32),
        frames=open_array(folder / "frames.npy", FRAMES_SHAPE, np.uint8),
        events=events,
        objects=objects,
    )
    return Inputs(features, AUDIOSET, IMAGENET)


def open_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Open an array of random numbers, memory-mapped; write it the first time."""
    if not path.exists():
        numbers = np.random.default_rng(0).integers(0, 255, shape)
        np.save(path, numbers.astype(dtype))
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


def time_epoch(inputs: Inputs) -> float:
    """Return the seconds to gather and normalise an epoch's batches."""
    start = time.perf_counter()
    order = np.random.default_rng(0).permutation(STORED)
    for _ in iterate_batches(inputs, order, BATCH_SIZE, torch.device("cpu")):
        pass
    return time.perf_counter() - start


def measure_memory(folder: Path, readers: int) -> float:
    """Return the MiB of the store's pages in so many readers together."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(readers)  # all have read the store
    measured = context.Barrier(readers)  # all have measured, and may end
    sizes = context.Queue()

    processes = []
    for _ in range(readers):
        arguments = (folder, ready, measured, sizes)
        process = context.Process(target=read_store, args=arguments)
        process.start()
        processes.append(process)

    total = sum(sizes.get() for _ in processes)
    for process in processes:
        process.join()
    return float(total)


def read_store(folder: Path, ready: Any, measured: Any, sizes: Any) -> None:
    """Read the whole store once, in a process of its own, and report the MiB of its pages."""
    torch.set_num_threads(1)
    inputs = open_store(folder)
    time_epoch(inputs)
    ready.wait()

    # In /proc/self/smaps each mapping begins with a line that ends with its file's name.
    inside = False
    kib = 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            inside = str(folder) in line
        elif inside and line.startswith("Pss:"):
            kib += int(line.split()[1])

    # All readers keep their pages until each of them has measured.
    sizes.put(kib / 1024)
    measured.wait()


def make_row(what: str, value: float, unit: float) -> dict[str, Any]:
    """Make a line of the table; the ratio is to our decoding, one reader or both modalities."""
    return {"what": what, "value": value, "ratio": value / unit}


if __name__ == "__main__":
    main()
