"""What ends a study: a fault of the environment, and failures that are all alike."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from avsc_core.record.delivery.writer import Writer
from avsc_core.record.trials import TrialRecord
from studies.engine.blame import end_study
from studies.engine.callback import MOST_ALIKE, RecordCallback
from studies.engine.deaths import MOST_DEATHS, Death, Recovery
from studies.engine.display import Display
from studies.engine.strategy import Strategy
from studies.engine.tune import Interruption
from studies.study.plan import make_plan
from tests.builders.records import fresh_record
from tests.builders.reports import make_dataset
from tests.builders.studies import read

SEEDS = "question: q\nseeds: [0, 1, 2, 3, 4, 5]\narms: [{name: all}]\n"


@pytest.fixture
def callback(tmp_path: Path) -> Iterator[RecordCallback]:
    plan = make_plan(read(tmp_path, SEEDS))
    strategy = Strategy(plan, [])
    display = Display(strategy, 1)
    with Writer(fresh_record(tmp_path), plan.study.name) as writer:
        yield RecordCallback(plan.study, make_dataset(), writer, "", strategy, display, Recovery())


def fail(callback: RecordCallback, error: str, outcome: str = "failed") -> None:
    """Have the next trial fail."""
    planned = callback.find_next()
    assert planned is not None
    callback.open_trial(planned.key, planned)
    callback._close_trial(planned.key, outcome, {"error": f"Traceback ...\n{error}"})


def list_trials(callback: RecordCallback) -> list[TrialRecord]:
    """List the trials of the study once the record has all that happened."""
    callback.writer.wait_until_delivered()
    return callback.writer.recorder.list_trials(callback.study.name)


def test_failures_that_are_all_alike_end_a_study(
    callback: RecordCallback, capsys: pytest.CaptureFixture[str]
):
    for number in range(MOST_ALIKE):
        assert not Interruption(callback).stop_all()
        fail(callback, f"OSError: {number} of 7")
    assert Interruption(callback).stop_all()
    assert "1/6 failed   all" in capsys.readouterr().err
    fault = str(end_study(callback.fault))
    assert fault.startswith("study: 5 trials in a row failed alike, the last one all")
    assert fault.endswith("; OSError: 4 of 7; mend that; the same command continues")


def test_failures_of_several_kinds_end_no_study(callback: RecordCallback):
    for error in (
        "ValueError: a",
        "ValueError: a",
        "ValueError: a",
        "ValueError: a",
        "KeyError: b",
    ):
        fail(callback, error)
    assert not callback.fault


def test_trials_that_diverge_are_no_fault_of_all(callback: RecordCallback):
    for _ in range(6):
        fail(callback, "epoch 1: train_total is not finite", "diverged")
    assert not callback.fault


def test_a_fault_of_the_environment_costs_no_trial(callback: RecordCallback):
    planned = callback.find_next()
    assert planned is not None
    callback.open_trial("1", planned)
    callback._leave_trial("1", "disk: / has 0.0 MB free; free some, the same command continues")
    assert Interruption(callback).stop_all()
    (trial,) = list_trials(callback)
    assert (trial.outcome, trial.error) == ("interrupted", "")
    assert planned.key not in callback.strategy.known
    assert callback.failed == 0


def test_a_worker_that_dies_between_two_trials_costs_neither(callback: RecordCallback):
    """Ray itself tries a trial again only once a worker has begun it."""
    planned = callback.find_next()
    assert planned is not None
    for number in range(MOST_DEATHS):
        callback.open_trial(str(number), planned)
        trial = SimpleNamespace(
            trial_id=str(number),
            config={"checkpoint": "none.pt"},
            num_failures=1,
            max_failures=MOST_DEATHS - 1,
        )
        callback.recovery.known[trial.trial_id] = Death("killed", environment=False)
        callback.on_trial_error(trial=trial)
        assert callback.find_next() == planned
    assert len(list_trials(callback)) == 1
    assert (callback.failed, callback.fault) == (0, "")

    # But not for ever.
    callback.open_trial("last", planned)
    trial.trial_id = "last"
    callback.recovery.known["last"] = Death("killed", environment=False)
    callback.on_trial_error(trial=trial)
    assert callback.failed == 1
