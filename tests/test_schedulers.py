"""Every scheduler by name: on a real study, arms untouched, every trial accounted for; what survives a restart."""

from pathlib import Path

import pytest
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from studies.runner.plan import make_plan
from studies.runner.schedulers import ALONE, REMEMBERING, SCHEDULERS, Reported, build_scheduler
from studies.runner.searching import SCHEDULER_NAMES
from tests.test_schema import read
from tests.test_study_end_to_end import Place

RETUNED = """\
question: q
base: {training.epochs: 9}
arms: [{name: one}, {name: two, set: {fusion.kind: none}}]
retune: 4
search: {space: {loss_weights: }, trials: 9, sampler: random, scheduler: SCHEDULER}
"""


def test_names_agree():
    assert tuple(SCHEDULERS) == SCHEDULER_NAMES


@pytest.mark.parametrize(
    "scheduler", [name for name in SCHEDULER_NAMES if name != "asha"]
)  # asha: the end-to-end study
@pytest.mark.slow
def test_every_scheduler_finishes_a_study(tmp_path: Path, scenes: Path, scheduler: str):
    place = Place(tmp_path, scenes)
    sets = [f"search.scheduler={scheduler}", "search.trials=5", "seeds=[0]", "search.sampler=random"]
    place.run(*place.run_study, *(word for each in sets for word in ("--set", each)))
    trials = place.trials()
    assert len(trials) == 7
    for trial in trials:
        steps = [epoch for epoch, _ in place.recorder.history(trial.run_id, "train_total")]
        assert trial.outcome == ("complete" if len(steps) == 3 else "stopped")
        assert steps == list(range(1, len(steps) + 1))
        assert trial.arm == "search" or len(steps) == 3
    if scheduler == "none":
        assert {trial.outcome for trial in trials} == {"complete"}


class Trial:
    """As much of Ray's trial as schedulers look at."""

    def __init__(self, trial_id: str, search: str) -> None:
        self.trial_id, self.config = trial_id, {"search": search}


def verdict(scheduler: TrialScheduler, search: str, value: float) -> str:
    """What becomes of a new trial of a search that reports this value in its third epoch."""
    trial = Trial(f"new {search} {value}", search)
    scheduler.on_trial_add(ALONE, trial)
    return str([scheduler.on_trial_result(ALONE, trial, {"epoch": n, "val_acc": value}) for n in (1, 2, 3)][-1])


@pytest.mark.parametrize("name", SCHEDULER_NAMES)
def test_a_restart_forgets_no_rung(tmp_path: Path, name: str):
    """A poor trial after a restart is stopped by what trials before it reported; searches do not judge each other."""
    plan = make_plan(read(tmp_path, RETUNED.replace("SCHEDULER", name)))
    good = tuple((epoch, 0.8 + 0.01 * epoch) for epoch in range(1, 10))
    past = [Reported("search: one", f"old {number}", good) for number in range(6)]
    scheduler = build_scheduler(plan, past)
    if name in REMEMBERING:
        assert verdict(scheduler, "search: one", 0.1) == TrialScheduler.STOP
        assert verdict(build_scheduler(plan), "search: one", 0.1) == TrialScheduler.CONTINUE
        assert verdict(scheduler, "search: one", 0.99) == TrialScheduler.CONTINUE
    if name != "hyperband":  # which pauses until a bracket is full
        assert verdict(scheduler, "search: two", 0.1) == TrialScheduler.CONTINUE
    assert verdict(scheduler, "", 0.1) == TrialScheduler.CONTINUE  # an arm
