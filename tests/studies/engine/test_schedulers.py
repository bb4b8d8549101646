"""Every scheduler by name: who is stopped and who never.

Also what a restart, a divergence and a resumed trial do to it.
"""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.schedulers.trial_scheduler import TrialScheduler

from studies.engine.schedulers import SCHEDULERS, Reported, build_scheduler
from studies.engine.tune import _list_reports
from studies.study.plan import make_plan
from studies.study.search import SCHEDULER_NAMES
from tests.builders.places import Place
from tests.builders.studies import read

TEXT = """\
question: q
base: {training.epochs: 9}
arms: [{name: one}, {name: long, set: {training.epochs: 18}}]
retune: 4
search:
  space: {loss_weights: }
  trials: 9
  sampler: random
  scheduler: SCHEDULER
  grace_epochs: GRACE
"""
JUDGES = pytest.mark.parametrize("name", SCHEDULERS)
Curve = Callable[[int], float]


def test_names_agree():
    assert ("none", *SCHEDULERS) == SCHEDULER_NAMES


@pytest.mark.parametrize(
    "scheduler", [name for name in SCHEDULER_NAMES if name != "asha"]
)  # asha: the end-to-end study
@pytest.mark.slow
def test_every_scheduler_finishes_a_study(tmp_path: Path, scenes: Path, scheduler: str):
    place = Place(tmp_path, scenes)
    sets = [
        f"search.scheduler={scheduler}",
        "search.trials=5",
        "seeds=[0]",
        "search.sampler=random",
    ]
    place.run(*place.run_study, *(word for each in sets for word in ("--set", each)))
    trials = place.trials()
    assert len(trials) == 7
    for trial in trials:
        steps = [epoch for epoch, _ in place.recorder.read_history(trial.run_id, "train_total")]
        assert trial.outcome == ("complete" if len(steps) == 3 else "stopped")
        assert steps == list(range(1, len(steps) + 1))
        assert trial.arm == "search" or len(steps) == 3
    if scheduler == "none":
        assert {trial.outcome for trial in trials} == {"complete"}


class Trial:
    """As much of Ray's trial as schedulers look at; another one waits for a worker at all times."""

    def __init__(self, key: str, search: str) -> None:
        self.trial_id, self.status = f"{key} in this invocation", "PENDING"
        self.config = {"search": search, "key": key}


CROWD = SimpleNamespace(
    get_live_trials=lambda: [Trial("waiting", "search")]
)  # as much of Ray's controller


def build(
    folder: Path, name: str, past: tuple[Reported, ...] = (), grace: int = 3
) -> TrialScheduler:
    text = TEXT.replace("SCHEDULER", name).replace("GRACE", str(grace))
    return build_scheduler(make_plan(read(folder, text)), past)


def play(
    scheduler: TrialScheduler,
    key: str,
    curve: Curve,
    search: str = "search",
    first: int = 1,
    last: int = 9,
):
    """Return the epoch that a trial gets to when it is run as Ray runs it.

    A trial that is stopped or at its last epoch is closed with that result.
    """
    trial = Trial(key, search)
    scheduler.on_trial_add(CROWD, trial)
    for epoch in range(first, last + 1):
        result = {"epoch": epoch, "val_acc": curve(epoch)}
        if epoch == last:
            result["outcome"] = "complete"
        verdict = "STOP" if epoch == last else scheduler.on_trial_result(CROWD, trial, result)
        assert verdict in ("STOP", "CONTINUE")  # nobody is paused
        if verdict == "STOP":
            scheduler.on_trial_complete(CROWD, trial, result)
            return epoch
    raise AssertionError


def diverge(scheduler: TrialScheduler, key: str, epochs: int) -> None:
    """A trial that reports some epochs and then diverges: its last result has no epoch."""
    trial = Trial(key, "search")
    scheduler.on_trial_add(CROWD, trial)
    for epoch in range(1, epochs + 1):
        scheduler.on_trial_result(CROWD, trial, {"epoch": epoch, "val_acc": 0.9})
    scheduler.on_trial_complete(CROWD, trial, {"done": True, "outcome": "diverged", "error": "nan"})


def rising(level: float) -> Curve:
    """Better with every epoch, and in one order at all of them."""
    return lambda epoch: level + 0.01 * epoch


def past(curve: Curve, number: int, epochs: int = 9, finished: bool = True, search: str = "search"):
    """Trials of the record, in every bracket when there are many."""
    told = tuple((epoch, curve(epoch)) for epoch in range(1, epochs + 1))
    return tuple(Reported(search, f"old {each}", finished, told) for each in range(number))


def brackets(scheduler: TrialScheduler, keys: list[str]) -> list[int]:
    """Which bracket of the study's own search each key is in."""
    order = [bracket.scheduler for bracket in scheduler.brackets["search"]]
    return [order.index(scheduler.find_scheduler("search", key)) for key in keys]


def in_bracket(scheduler: TrialScheduler, number: int) -> str:
    """A new trial's key in this bracket."""
    return next(key for key in map(str, range(1000)) if brackets(scheduler, [key]) == [number])


@JUDGES
def test_a_restart_forgets_no_rung(tmp_path: Path, name: str):
    """A poor trial after a restart is stopped by what trials before it reported.

    Searches do not judge each other.
    """
    scheduler = build(tmp_path, name, past(rising(0.8), 40))
    key = in_bracket(scheduler, 0)
    assert play(scheduler, key, rising(0.1)) == 3
    assert play(build(tmp_path, name), key, rising(0.1)) == 9  # nothing to compare it with
    assert play(scheduler, f"{key} good", rising(0.9)) == 9
    assert play(scheduler, key, rising(0.1), "one") == 9
    assert play(scheduler, key, rising(0.1), "") == 9  # an arm


@JUDGES
def test_a_diverged_trial_does_no_harm(tmp_path: Path, name: str):
    scheduler = build(tmp_path, name)
    key = in_bracket(scheduler, 0)
    for number in range(20):
        play(scheduler, f"good {number}", rising(0.8))
        diverge(scheduler, f"diverged {number}", number % 6)
    assert play(scheduler, key, rising(0.1)) == 3
    assert play(scheduler, key, rising(0.9)) == 9
    nothing, little = past(rising(0.9), 20, epochs=0), past(rising(0.9), 20, epochs=2)
    for diverged in (nothing, little):
        again = build(tmp_path, name, (*diverged, *past(rising(0.8), 40)))
        assert play(again, key, rising(0.1)) == 3
        assert play(again, key, rising(0.9)) == 9


@JUDGES
def test_whatever_ran_can_be_told_again(tmp_path: Path, name: str):
    """Trials that today's verdict would have stopped went on when fewer were known.

    Reported again, they are not an error.
    """
    good, poor = past(rising(0.8), 40), past(rising(0.1), 50)[40:]
    unfinished = past(rising(0.1), 60, epochs=6, finished=False)[50:]
    scheduler = build(tmp_path, name, (*good, *poor, *unfinished))
    key = in_bracket(scheduler, 0)
    assert play(scheduler, key, rising(0.1)) == 3
    resumed = {play(scheduler, trial.key, rising(0.1), first=6) for trial in unfinished}
    assert resumed == (
        {6} if name == "median" else {9}
    )  # which judges at every epoch; the rungs are 3 and 9
    assert play(scheduler, f"{key} good", rising(0.9)) == 9


@JUDGES
def test_an_epoch_without_its_verdict_is_judged_again(tmp_path: Path, name: str):
    """A poor trial that was killed before it could be stopped reports its last epoch again.

    It was killed after its third epoch had been recorded.
    """
    scheduler = build(tmp_path, name)
    key = in_bracket(scheduler, 0)
    told = Reported("search", key, False, ((1, 0.1), (2, 0.1), (3, 0.1)))
    assert (
        play(build(tmp_path, name, (*past(rising(0.8), 40), told)), key, lambda epoch: 0.1, first=3)
        == 3
    )


@JUDGES
def test_a_study_in_two_invocations(tmp_path: Path, name: str):
    """Late starters, noise, both verdicts; every trial stays in its bracket and nothing breaks."""
    curves = {
        f"trial {n}": lambda epoch, n=n: math.sin(n) * epoch / 9 + math.sin(7 * n + epoch) / 9
        for n in range(60)
    }
    scheduler = build(tmp_path, name, grace=1)
    reached = {key: play(scheduler, key, curve) for key, curve in curves.items()}
    assert 5 < list(reached.values()).count(9) < 55
    assert reached[max(curves, key=lambda key: min(map(curves[key], range(1, 10))))] == 9
    told = tuple(
        Reported(
            "search",
            key,
            bool(number % 5),
            tuple((e, curves[key](e)) for e in range(1, reached[key] + 1)),
        )
        for number, key in enumerate(curves)
    )
    again = build(tmp_path, name, told, grace=1)
    assert brackets(again, list(curves)) == brackets(scheduler, list(curves))
    for trial in told:
        if not trial.finished:
            assert (
                play(again, trial.key, curves[trial.key], first=reached[trial.key])
                >= reached[trial.key]
            )


def test_hyperband_has_the_brackets_of_hyperband(tmp_path: Path):
    """For 9 epochs and a factor of 3 it starts 9, 5 and 3 configurations at 1, 3 and 9 epochs."""
    scheduler = build(tmp_path, "hyperband", grace=1)
    assert [bracket.share for bracket in scheduler.brackets["search"]] == [9, 5, 3]
    keys = [str(number) for number in range(1700)]
    shares = Counter(brackets(scheduler, keys))
    assert [shares[number] / 100 for number in range(3)] == pytest.approx([9, 5, 3], abs=0.8)
    assert brackets(scheduler, keys[:12]) == [
        0,
        0,
        1,
        2,
        0,
        0,
        0,
        1,
        0,
        0,
        1,
        2,
    ]  # in every process
    for number in range(40):
        assert play(scheduler, f"good {number}", rising(0.8 + number / 100)) == 9
    assert [play(scheduler, in_bracket(scheduler, number), rising(0.1)) for number in range(3)] == [
        1,
        3,
        9,
    ]


@pytest.mark.parametrize(("grace", "begins"), [(1, [1, 3, 9]), (2, [2, 6]), (4, [4]), (20, [9])])
def test_grace_epochs_count_for_hyperband(tmp_path: Path, grace: int, begins: list[int]):
    scheduler = build(tmp_path, "hyperband", past(rising(0.8), 60), grace)
    poor = [
        play(scheduler, in_bracket(scheduler, number), rising(0.1)) for number in range(len(begins))
    ]
    assert (len(scheduler.brackets["search"]), poor) == (len(begins), begins)


@JUDGES
def test_a_retuned_arm_has_its_own_last_epoch(tmp_path: Path, name: str):
    scheduler = build(tmp_path, name)
    reached = [
        play(scheduler, str(number), rising(number / 10), "long", last=18) for number in range(9)
    ]
    assert reached == [18] * 9  # each is better than those before


@JUDGES
@pytest.mark.parametrize("first", [1, 5, 6, 9])
def test_a_resumed_trial_enters_no_rung_late(tmp_path: Path, name: str, first: int):
    """It had 0.55 at epoch 3 and is at 0.8 now: a trial with 0.7 at epoch 3 is the better one.

    It goes on from epoch `first`: from the beginning when its checkpoint is lost, from the last
    recorded epoch, from one that was trained but not recorded, or it only has to be closed.
    """

    def slow(epoch: int) -> float:
        return 0.4 + 0.05 * epoch

    told = past(slow, 40, epochs=8 if first == 9 else 5, finished=False)
    scheduler = build(tmp_path, name, told)
    for trial in told:
        play(scheduler, trial.key, slow, first=first)
    key = in_bracket(scheduler, 0)
    assert play(scheduler, key, lambda epoch: 0.5) == 3
    assert play(scheduler, f"{key} better", lambda epoch: 0.7) > 3


def test_the_record_tells_of_all_trials_of_searches(tmp_path: Path):
    plan = make_plan(read(tmp_path, TEXT.replace("SCHEDULER", "asha").replace("GRACE", "3")))
    outcomes = ("complete", "stopped", "diverged", "failed", "interrupted", "running")
    trials = [
        SimpleNamespace(role="search", arm="search", key=each, run_id=each, outcome=each)
        for each in outcomes
    ]
    trials.append(
        SimpleNamespace(role="arm", arm="one", key="arm", run_id="arm", outcome="complete")
    )
    recorder = SimpleNamespace(read_histories=lambda run_ids, metric: [[(1, 0.5)] for _ in run_ids])
    told = list(_list_reports(plan, recorder, SimpleNamespace(records=trials)))
    assert [trial.key for trial in told] == list(outcomes)
    assert [trial.finished for trial in told] == [True, True, True, False, False, False]
    assert {trial.history for trial in told} == {((1, 0.5),)}
