"""How long does a training of preset `paper` wait for a checkpoint, and what goes on meanwhile?

The state is that of the whole model with AdamW's moments. Before, `torch.save` and a flush to the
disk held the training up after every epoch; now it waits for a copy, and a thread writes that. The
last column is how much slower the training thread multiplies matrices while the thread writes. An
hour has epochs of two minutes, and writing takes place every ten.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from avsc_core.config import Config
from avsc_core.files import atomic_path
from avsc_core.model import build_model
from avsc_core.resolve import Override, resolve
from avsc_core.trainer.checkpoint import Checkpoint, CheckpointFile
from avsc_core.trainer.state import take_states
from avsc_core.trainer.step import build_training
from benchmarks.cross_attention import DEVICE
from benchmarks.report import keep

EPOCHS_AN_HOUR = 30
FROZEN = {"audio.freeze": 10, "visual.freeze": 3}


def main() -> None:
    """Time both ways, the second also with most of both backbones frozen, and keep the result."""
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.pt"
        rows.append(measure_before(make_state(resolve("paper")), path))
        for name, sets in (("now", {}), ("now, backbones frozen in part", FROZEN)):
            overrides = [Override(key, value, name) for key, value in sets.items()]
            rows.append(measure_now(name, make_state(resolve("paper", overrides)), path))
    keep("checkpoint", "a checkpoint of preset paper", rows)


def make_state(config: Config) -> Callable[[], Checkpoint]:
    """Build a training with AdamW's moments. Returns what takes its state."""
    torch.manual_seed(0)
    model = build_model(config).to(DEVICE)
    parts = build_training(config, model, steps_per_epoch=1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    parts.optimiser.step()
    parts.optimiser.zero_grad(set_to_none=True)

    frozen = {name for name, each in model.named_parameters() if not each.requires_grad}
    names = ("model", "optimiser", "schedule", "scaler")
    states = {name: getattr(parts, name) for name in names}
    return lambda: take_states(1, {}, states, frozen, None)


def measure_before(take: Callable[[], Checkpoint], path: Path) -> dict[str, Any]:
    """Measure writing on the training thread."""
    start = time.perf_counter()
    with atomic_path(path) as temporary:
        torch.save(take()._asdict(), temporary)
    held = time.perf_counter() - start
    return describe("before", path, held, EPOCHS_AN_HOUR, background=0.0, slower=1.0)


def measure_now(name: str, take: Callable[[], Checkpoint], path: Path) -> dict[str, Any]:
    """Measure the copy on the training thread, and the writing meanwhile."""
    alone = multiply_for(3.0)
    file = CheckpointFile(path, minutes=10)
    start = time.perf_counter()
    file.offer(take)
    held = time.perf_counter() - start

    # The training thread goes on.
    assert file.writing is not None
    counts = []
    while not file.writing.done():
        counts.append(multiply_for(0.2))
    beside = sum(counts) / len(counts)
    return describe(name, path, held, 6, background=file.seconds - held, slower=alone / beside)


def multiply_for(seconds: float) -> float:
    """Multiply matrices for so long. Returns how many a second."""
    matrix = torch.rand(256, 256)
    start = time.perf_counter()
    count = 0
    while time.perf_counter() - start < seconds:
        matrix @ matrix
        count += 1
    return count / (time.perf_counter() - start)


def describe(
    form: str, path: Path, held: float, times: int, *, background: float, slower: float
) -> dict[str, Any]:
    """Describe a way to write; `times` in an hour."""
    return {
        "form": form,
        "GB": path.stat().st_size / 1e9,
        "s that training waits": held,
        "s waited in an hour": held * times,
        "s in the thread": background,
        "times slower meanwhile": slower,
    }


if __name__ == "__main__":
    main()
