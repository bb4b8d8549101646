"""How long a worker may be silent. That it is replaced then, test_deaths.py shows."""

from types import SimpleNamespace
from typing import Any

import pytest

from avsc_core.config import Config
from studies.engine import watchdog as module
from studies.engine.deaths import Recovery
from studies.engine.watchdog import LONGEST_TURN, Watchdog


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def make_trial(config: Config, has_worker: bool = True) -> Any:
    actor = SimpleNamespace(ray_actor=object() if has_worker else None)
    parameters = {"config": config.model_dump_json()}
    return SimpleNamespace(
        trial_id="1", config=parameters, temporary_state=actor, status="RUNNING", PENDING="PENDING"
    )


def watch(expected: float = 1.0) -> tuple[Watchdog, list[str]]:
    """Return a watchdog, and the list of trials whose workers it replaces."""
    replaced: list[str] = []
    watchdog = Watchdog(Recovery(), 1, expected, last_turn=0.0)

    def replace(watched: Any, patience: float) -> None:
        replaced.append(watched.trial.trial_id)
        watched.silent = 0.0
        watched.hangs += 1

    watchdog._replace_worker = replace  # type: ignore[method-assign]
    return watchdog, replaced


def pass_time(watchdog: Watchdog, clock: Clock, trial: Any, seconds: float) -> None:
    for _ in range(int(seconds)):
        clock.now += 1.0
        watchdog.on_step_end(trials=[trial])


@pytest.mark.parametrize(
    ("expected", "seconds", "patience"),
    [
        (1.0, [], 600),  # nothing is known
        (1000.0, [], 10_000),  # but that an epoch takes long
        (1.0, [1, 2, 300], 60),
        (1.0, [20, 30, 40], 300),
    ],
)
def test_a_worker_may_be_silent_for_ten_usual_epochs(
    tiny: Config, clock: Clock, expected: float, seconds: list[float], patience: int
):
    watchdog, replaced = watch(expected)
    trial = make_trial(tiny)
    watchdog.on_trial_start(trial=trial)
    for each in seconds:
        watchdog.on_trial_result(trial=trial, result={"seconds": each})
    pass_time(watchdog, clock, trial, patience)
    assert not replaced
    pass_time(watchdog, clock, trial, 1)
    assert replaced == ["1"]

    # The next worker gets twice as long, until there is an epoch again.
    pass_time(watchdog, clock, trial, 2 * patience)
    assert replaced == ["1"]
    watchdog.on_trial_result(trial=trial, result={"seconds": 1.0})
    assert watchdog.watched["1"].hangs == 0


def test_another_kind_of_training_is_not_measured_by_this_one(tiny: Config, clock: Clock):
    """A ladder's full rung takes longer than its cheap one."""
    watchdog, _ = watch()
    trial = make_trial(tiny)
    watchdog.on_trial_result(trial=trial, result={"seconds": 1.0})
    larger = make_trial(tiny.model_copy(update={"scenes": 11}))
    larger.trial_id = "2"
    watchdog.on_trial_start(trial=larger)
    assert watchdog.find_patience(watchdog.watched["1"]) == 60
    assert watchdog.find_patience(watchdog.watched["2"]) == 600


def test_a_laptop_that_slept_wakes_up_to_its_workers(tiny: Config, clock: Clock):
    watchdog, replaced = watch()
    trial = make_trial(tiny)
    watchdog.on_trial_start(trial=trial)
    watchdog.on_step_end(trials=[trial])
    clock.now += 3600
    watchdog.on_step_end(trials=[trial])
    assert not replaced
    assert watchdog.watched["1"].silent <= 2 * LONGEST_TURN


def test_a_trial_that_waits_for_a_worker_is_not_silent(tiny: Config, clock: Clock):
    watchdog, replaced = watch()
    trial = make_trial(tiny, has_worker=False)
    trial.status = trial.PENDING
    pass_time(watchdog, clock, trial, 2000)
    assert not replaced

    # One whose worker is being reset for it has one.
    trial.temporary_state.ray_actor = object()
    pass_time(watchdog, clock, trial, 601)
    assert replaced == ["1"]
