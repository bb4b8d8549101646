"""The median rule decides as Ray's does, in a time that does not grow with the trials."""

import random
import sys
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from ray.tune.schedulers import MedianStoppingRule

from studies.engine.median import MedianRule


class Trial(NamedTuple):
    """As much of Ray's trial as the rule looks at."""

    trial_id: str


GRACE = 3
EPOCHS = 9


def play_side_by_side(scheduler: Any, trials: int, seed: int, side_by_side: int) -> dict[str, int]:
    """Return the last epoch of each trial that runs beside others, some of which miss reports."""
    rng = random.Random(seed)
    controller = SimpleNamespace(get_live_trials=list)
    waiting = [Trial(f"trial {number}") for number in range(trials)]
    running: dict[str, tuple[Any, int, float]] = {}
    reached = {}
    while waiting or running:
        while waiting and len(running) < side_by_side:
            trial = waiting.pop(0)
            scheduler.on_trial_add(controller, trial)
            running[trial.trial_id] = (trial, 0, rng.choice([0.1, 0.3, 0.5, rng.random()]))
        name = rng.choice(list(running))
        trial, epoch, level = running[name]
        epoch += rng.choice([1, 1, 1, 2])
        result = {"epoch": epoch, "val": level + rng.choice([0, 0.05, 0.1])}
        if epoch < EPOCHS:
            verdict = scheduler.on_trial_result(controller, trial, result)
        else:
            verdict = "STOP"
            scheduler.on_trial_complete(controller, trial, result)
        running[name] = (trial, epoch, level)
        if verdict == "STOP":
            reached[name] = epoch
            del running[name]
    return reached


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("side_by_side", [1, 2, 7])
@pytest.mark.parametrize("seed", range(5))
def test_it_decides_as_rays_rule(mode: str, side_by_side: int, seed: int):
    rays = MedianStoppingRule(
        time_attr="epoch", metric="val", mode=mode, grace_period=GRACE, min_time_slice=1e9
    )
    found = play_side_by_side(MedianRule("val", mode, GRACE), 60, seed, side_by_side)
    assert found == play_side_by_side(rays, 60, seed, side_by_side)
    assert 5 < sum(epoch < EPOCHS for epoch in found.values()) < 58


def test_an_epoch_that_is_reported_again_counts_once():
    disturbed = MedianRule("val", "max", 1)
    undisturbed = MedianRule("val", "max", 1)
    for scheduler in (disturbed, undisturbed):
        for number in range(3):
            trial = Trial(f"trial {number}")
            for epoch in (1, 1, 1, 2) if scheduler is disturbed else (1, 2):
                result = {"epoch": epoch, "val": float(epoch)}
                assert scheduler.on_trial_result(None, trial, result) == "CONTINUE"
    judged = Trial("judged")
    verdicts = [
        scheduler.on_trial_result(None, judged, {"epoch": 2, "val": 1.4})
        for scheduler in (disturbed, undisturbed)
    ]
    assert verdicts == ["STOP", "STOP"]


def count_work(trials: int) -> int:
    """Count the bytecodes that judging one more trial takes, after so many others."""
    scheduler = MedianRule("val", "max", GRACE)
    rng = random.Random(0)
    for number in range(trials):
        for epoch in range(1, EPOCHS):
            result = {"epoch": epoch, "val": rng.random()}
            scheduler.on_trial_result(None, Trial(f"trial {number}"), result)

    count = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        for epoch in range(1, EPOCHS):
            scheduler.on_trial_result(None, Trial("last"), {"epoch": epoch, "val": 0.5})
    finally:
        sys.settrace(None)
    return count


def test_a_report_takes_no_more_work_after_ten_thousand_trials():
    few = count_work(100)
    assert few > 100
    assert count_work(10_000) == few
