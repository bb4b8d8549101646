"""Every scheduler by name, on a real study: arms untouched, every trial of the search accounted for."""

from pathlib import Path

import pytest

from studies.runner.schedulers import SCHEDULERS
from studies.runner.searching import SCHEDULER_NAMES
from tests.test_study_end_to_end import Place


def test_names_agree():
    assert tuple(SCHEDULERS) == SCHEDULER_NAMES


@pytest.mark.parametrize(
    "scheduler", [name for name in SCHEDULER_NAMES if name != "asha"]
)  # asha: the end-to-end study
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
