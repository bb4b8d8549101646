"""Does importance name the dimension that decides which trials a scheduler stops?

Searches are simulated, each of 60 random points of four loss weights with Ray's own ASHA at its
defaults here (grace epochs 3, reduction factor 3) over 27 epochs. One weight decides how good a
trial is, with a standard deviation of 0.1 beside 0.03 of luck, or no weight does. Each row of the
table has 2,000 searches, and the share of them in which the deciding weight, or any of the other
three, is named because its share of importance is above what chance shows (one search in twenty is
luck):

    first rung   all trials, by their values at epoch 3: what a report has beside the next
    survivors    completed trials, by their values at the end: what reports had alone
    all trials   every trial by its last value, whenever it was stopped
"""

from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler

from avsc_core.resolve import resolve
from benchmarks.report import keep
from search_spaces.building import build_space
from search_spaces.importance import measure_importance
from search_spaces.space import Space

SEARCHES = 2000
TRIALS = 60
EPOCHS = 27
GRACE_EPOCHS = 3
REDUCTION_FACTOR = 3

DECIDING = "loss_weights.scene"
OTHERS = ("loss_weights.event", "loss_weights.object", "loss_weights.e2o")
EFFECTS = {"plain": 0.1, "none": 0.0}  # standard deviations over the space
LUCK = 0.03  # of a training
JITTER = 0.01  # of an epoch


def main() -> None:
    """Simulate every case and keep the result."""
    rows = [measure(name, effect) for name, effect in EFFECTS.items()]
    question = f"searches of {SEARCHES} whose importance names a dimension"
    keep("importance", question, rows)


def measure(name: str, effect: float) -> dict[str, Any]:
    """Simulate the searches of one row."""
    rng = np.random.default_rng(0)
    space = build_space(dict.fromkeys((DECIDING, *OTHERS)), resolve("demo"), str)
    deciding = {"first rung": 0, "survivors": 0, "all trials": 0}
    other = dict.fromkeys(deciding, 0)
    completed = []
    for _ in range(SEARCHES):
        # Weights are drawn on the log scale from 0.01 to 100.
        logs = rng.uniform(-2, 2, (TRIALS, 1 + len(OTHERS)))
        quality = effect * logs[:, 0] / np.sqrt(16 / 12)
        curves = simulate_search(rng, quality)
        ends = [index for index, curve in enumerate(curves) if len(curve) == EPOCHS]
        completed.append(len(ends))

        everyone = list(range(TRIALS))
        judged = {
            "first rung": (everyone, [curve[GRACE_EPOCHS - 1] for curve in curves]),
            "survivors": (ends, [curves[index][-1] for index in ends]),
            "all trials": (everyone, [curve[-1] for curve in curves]),
        }
        for key, (trials, values) in judged.items():
            named = list_named(space, logs[trials], values)
            deciding[key] += DECIDING in named
            other[key] += bool(named - {DECIDING})

    row: dict[str, Any] = {
        "effect": name,
        "searches": SEARCHES,
        "survivors": float(np.mean(completed)),
    }
    for key in deciding:
        row[f"{key}: deciding"] = deciding[key] / SEARCHES
        row[f"{key}: other"] = other[key] / SEARCHES
    return row


def simulate_search(rng: np.random.Generator, quality: np.ndarray) -> list[list[float]]:
    """Simulate the learning curves of a search's trials, as far as ASHA lets them run."""
    scheduler = AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="val_acc",
        mode="max",
        max_t=EPOCHS,
        grace_period=GRACE_EPOCHS,
        reduction_factor=REDUCTION_FACTOR,
    )
    curves = []
    for number, level in enumerate(quality + rng.normal(0, LUCK, len(quality))):
        trial = SimpleNamespace(trial_id=str(number))
        scheduler.on_trial_add(None, trial)
        curve: list[float] = []
        for epoch in range(1, EPOCHS + 1):
            value = 0.6 + level - 0.3 * np.exp(-epoch / 5) + rng.normal(0, JITTER)
            curve.append(float(value))
            decision = scheduler.on_trial_result(None, trial, {"epoch": epoch, "val_acc": value})
            if decision == scheduler.STOP:
                break
        curves.append(curve)
    return curves


def list_named(space: Space, logs: np.ndarray, values: list[float]) -> set[str]:
    """List the dimensions whose share of importance is above what chance shows."""
    points = [dict(zip((DECIDING, *OTHERS), map(float, 10**row), strict=True)) for row in logs]
    importance = measure_importance(space, points, values, "max")
    return {key for key, share in importance.shares.items() if share > importance.chance}


if __name__ == "__main__":
    main()
