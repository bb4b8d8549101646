"""A study that was killed and continued ends as the undisturbed one: trials, values, best.

Every sampler (search_spaces/sampling.py) with every scheduler (studies/engine/schedulers.py),
killed at writes into the record and continued from what it holds (studies/engine/strategy.py),
without any training. With one worker: with several, the order in which trials end decides what
samplers and schedulers know of.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from avsc_core.record.trials import TrialRecord
from search_spaces.sampling import SAMPLERS, Sampler
from studies.study.plan import Plan, make_plan
from studies.study.search import SCHEDULER_NAMES
from tests.builders.simulation import Cut, Record, run
from tests.builders.studies import read
from tests.builders.trials import record

TEXT = """\
question: q
base: {training.epochs: 4}
arms: [{name: one, set: {alignment.k: 6}}, {name: outside, set: {fusion.kind: none}}]
search:
  space: SPACE
  trials: TRIALS
  sampler: SAMPLER
  scheduler: SCHEDULER
  grace_epochs: 1
  reduction_factor: 2
"""
WIDE = "{loss_weights: , alignment.enabled: , alignment.k: , alignment.mode: }"
# So small that samplers propose what is known, which is passed over.
SMALL = "{alignment.k: {low: 3, high: 7}, alignment.mode: , training.batch_size: [8, 16]}"
SLOW = [pytest.param("gp", marks=pytest.mark.slow)]  # a second for each proposal
FAST = [name for name in SAMPLERS if name != "gp"]


def make(
    folder: Path, sampler: str, scheduler: str, space: str = WIDE, trials: int = 9, more: str = ""
) -> Plan:
    if sampler == "brute_force":  # which has to count its points
        space = SMALL
    text = TEXT.replace("SPACE", space).replace("TRIALS", str(trials))
    text = text.replace("SAMPLER", sampler).replace("SCHEDULER", scheduler)
    return make_plan(read(folder, text + more))


def make_warm_start(plan: Plan) -> list[TrialRecord]:
    """Make trials of an earlier study, enough for every sampler to go by what it has learned."""
    search = plan.searches[0]
    earlier = []
    for number in range(21):
        values = {"alignment.k": 3 + number, "alignment.mode": ("lkm", "rkm")[number % 2]}
        settings = {**search.read_values(search.base), **values}
        trial = search.make_trial(search.space.present(settings))
        earlier.append(record(trial, "complete", 0.01 * (number * 7 % 21)))
    return earlier


def check(
    plan: Plan,
    earlier: list[TrialRecord] | None = None,
    every: int = 1,  # how many writes lie between the cuts that are tried
    lost: int = 1,  # epochs that a trial trains again
) -> Record:
    """Cut a study at some of its writes, continue it, and compare it with the undisturbed one."""
    whole = Record()
    run(plan, whole, earlier or [])
    for most in range(0, whole.writes, every):
        kept = Record(most=most)
        with pytest.raises(Cut):
            run(plan, kept, earlier or [])
        kept.most = None
        run(plan, kept, earlier or [], lost)
        assert_same(kept, whole, [most])
    return whole


def assert_same(kept: Record, whole: Record, cuts: Iterable[int]) -> None:
    """Compare what is in two records, number by number."""
    assert len(kept.runs) == len(whole.runs), f"cut after {cuts} writes"
    for mine, theirs in zip(kept.describe(), whole.describe(), strict=True):
        assert mine == theirs, f"cut after {cuts} of {whole.writes} writes"


@pytest.mark.parametrize("scheduler", SCHEDULER_NAMES)
@pytest.mark.parametrize("sampler", FAST)
def test_every_sampler_with_every_scheduler(tmp_path: Path, sampler: str, scheduler: str):
    plan = make(tmp_path, sampler, scheduler)
    check(plan, make_warm_start(plan), every=17)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULER_NAMES)
@pytest.mark.parametrize("sampler", [*FAST, *SLOW])
def test_at_every_write(tmp_path: Path, sampler: str, scheduler: str):
    plan = make(tmp_path, sampler, scheduler)
    check(plan, make_warm_start(plan), every=13 if sampler == "gp" else 1)


@pytest.mark.parametrize("lost", [0, 2, 4])  # nothing, some epochs, and the whole checkpoint
@pytest.mark.parametrize("scheduler", ["asha", "median"])
def test_however_old_the_checkpoint_is(tmp_path: Path, scheduler: str, lost: int):
    whole = check(make(tmp_path, "random", scheduler, trials=12), every=9, lost=lost)
    outcomes = {each.outcome for each in whole.runs.values()}
    assert outcomes == {"complete", "stopped", "diverged"}


@pytest.mark.parametrize("sampler", FAST)
def test_proposals_that_are_passed_over(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
):
    """Most of the space is asked for, so that samplers repeat themselves."""
    told_failed = []
    tell = Sampler.tell

    def spy(self: Sampler, number: int, state: str, values: object) -> None:
        told_failed.append(state == "failed")
        tell(self, number, state, values)

    monkeypatch.setattr(Sampler, "tell", spy)
    plan = make(tmp_path, sampler, "none", SMALL, trials=19)
    check(plan, every=17)
    assert sampler == "brute_force" or sum(told_failed) > 20


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsga2", "qmc"])
def test_a_study_that_is_killed_again_and_again(tmp_path: Path, sampler: str):
    plan = make(tmp_path, sampler, "asha", trials=12)
    earlier = make_warm_start(plan)
    whole = Record()
    run(plan, whole, earlier)
    kept = Record(most=7)
    while True:
        try:
            run(plan, kept, earlier, lost=1)
            break
        except Cut:
            kept.most += 7
    assert_same(kept, whole, range(7, whole.writes, 7))


@pytest.mark.parametrize("more", ["retune: 4\nseeds: [0, 1]\n", "seeds: [0, 1]\n"])
@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_several_searches_and_what_follows_them(tmp_path: Path, sampler: str, more: str):
    """Searches go on in their order, with what their trials are repeated with at the end."""
    plan = make(tmp_path, sampler, "none", trials=4, more=more)
    whole = check(plan, every=13)
    roles = {each.planned.role for each in whole.runs.values()}
    assert roles >= ({"retuned", "search"} if "retune" in more else {"repeated", "search"})
