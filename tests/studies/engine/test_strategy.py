"""What runs next: order, memory, no repetition."""

from dataclasses import replace
from pathlib import Path

import pytest
from ray import cloudpickle

from avsc_core.config import Config
from avsc_core.record.delivery.writer import Writer
from avsc_core.record.trials import FinishedTraining
from studies.engine.callback import RecordCallback
from studies.engine.deaths import Recovery
from studies.engine.display import Display
from studies.engine.strategy import Strategy
from studies.engine.tune import Suggestions
from studies.study.plan import Plan, make_plan
from studies.study.reading import read_study
from tests.builders.records import fresh_record
from tests.builders.reports import make_dataset
from tests.builders.trials import drain, record, told

TEXT = """\
question: q
arms: [{name: one}, {name: two, set: {alignment.k: 6}}]
search: {space: {alignment.k: [3, 4, 6], alignment.mode: [lkm]}, trials: 2, sampler: random}
"""


def plan(folder: Path, text: str = TEXT, **options: object) -> Plan:
    (folder / "s.yaml").write_text(text)
    return make_plan(read_study(folder / "s.yaml", **options))


def k(config: Config) -> int:
    return config.alignment.k


def test_arms_come_first_then_the_search(tmp_path: Path):
    strategy = Strategy(plan(tmp_path), [])
    assert strategy.total == 4
    trials = drain(strategy)
    assert [trial.arm for trial in trials] == ["one", "two", "search", "search"]
    # The arm with K = 6 is a point of the space, so the search is left with the other two.
    assert {k(trial.config) for trial in trials[2:]} == {3, 4}


def test_a_search_goes_on_after_many_known_points(tmp_path: Path):
    """Points that begin the same list again, however many are known, are no reason to stop."""
    for sampler in ("brute_force", "qmc"):
        space = "{alignment.k: , training.batch_size: }"
        text = f"question: q\nsearch: {{space: {space}, sampler: {sampler}}}\n"
        asked = plan(tmp_path, text, trials=150)
        first = drain(Strategy(asked, []))
        assert len(first) == 150
        rest = drain(Strategy(asked, [record(trial, "complete", 0.5) for trial in first[:120]]))
        assert len(rest) == 30


@pytest.mark.parametrize("sampler", ["brute_force", "tpe"])
def test_ray_can_pickle_what_it_is_given(tmp_path: Path, sampler: str):
    """It does so before the first trial, and the first one may have been suggested by then."""
    space = "{alignment.k: [3, 4, 6]}"
    asked = plan(tmp_path, f"question: q\nsearch: {{space: {space}, sampler: {sampler}}}\n")
    strategy = Strategy(asked, [])
    data = make_dataset()
    display = Display(strategy, 1)
    writer = Writer(fresh_record(tmp_path), asked.study.name)
    callback = RecordCallback(asked.study, data, writer, "", strategy, display, Recovery())
    assert callback.find_next()
    cloudpickle.dumps(Suggestions(callback, 1))


def test_two_searches_never_train_the_same_at_once(tmp_path: Path):
    arms = "arms: [{name: one}, {name: two, set: {alignment.k: 6}}]\nretune: 6\n"
    space = "{alignment.k: [3, 4, 6], alignment.mode: }"
    text = f"question: q\n{arms}search: {{space: {space}, sampler: random}}\n"
    strategy = Strategy(plan(tmp_path, text), [])
    running, started = [], []
    while (trial := strategy.next()) or running:
        if trial:
            running.append(trial)
            started.append(trial.key)
        if not trial or len(running) == 4:
            strategy.finish(running.pop(0), "complete", told(0.5))
    assert len(started) == len(set(started)) == strategy.total


def test_an_arm_that_a_search_was_training_goes_on_once(tmp_path: Path):
    search = "search: {space: {alignment.k: [3, 4, 6]}, trials: 3, sampler: random}\n"
    first = drain(Strategy(plan(tmp_path, f"question: q\n{search}"), []))
    arm = f"question: q\narms: [{{name: b, set: {{alignment.k: {k(first[0].config)}}}}}]\n{search}"
    records = [
        record(trial, "interrupted" if trial is first[0] else "complete", 0.5) for trial in first
    ]
    strategy = Strategy(plan(tmp_path, arm), records)
    assert [trial.key for trial in drain(strategy)] == [first[0].key]
    assert strategy.total == 3


def test_points_that_are_no_configuration_are_passed_over(tmp_path: Path):
    text = "question: q\nsearch: {space: {alignment.k: }, trials: 40, sampler: brute_force}\n"
    made = plan(tmp_path, text)
    narrow = made.study.base.model_copy(
        update={"audio": made.study.base.audio.model_copy(update={"classes": 20})}
    )
    search = replace(made.searches[0], base=narrow)  # K may be 10 at most
    assert [k(t.config) for t in drain(Strategy(replace(made, searches=(search,)), []))] == list(
        range(1, 11)
    )


def test_every_search_is_told_of_an_earlier_study(tmp_path: Path):
    text = "question: q\narms: [{name: one}, {name: bare, set: {fusion.kind: none}}]\nretune: 4\n"
    text += (
        "search: {space: {alignment.k: [3, 4, 6]}, warm_start: s0, "
        "first: [{alignment.k: 6}], sampler: random}\n"
    )
    made = plan(tmp_path, text)
    assert [dict(search.first[0]) for search in made.searches] == [{"alignment.k": 6}] * 2
    earlier = [
        record(search.make_trial({"alignment.k": 4}), "complete", 0.5) for search in made.searches
    ]
    strategy = Strategy(made, [], earlier)
    assert strategy.warm == 2
    assert [len(searching.sampler.study.trials) for searching in strategy.searches.values()] == [
        1,
        1,
    ]


def test_a_space_that_is_used_up_ends_the_search(tmp_path: Path):
    trials = drain(Strategy(plan(tmp_path, trials=50), []))
    assert len(trials) == 4
    assert len({trial.key for trial in trials}) == 4


def test_finished_trials_are_not_run_again(tmp_path: Path):
    asked = plan(tmp_path)
    first = drain(Strategy(asked, []))
    records = [record(trial, "complete", 0.4) for trial in first]
    assert not Strategy(asked, records[:-1]).done
    assert Strategy(asked, records).done
    assert drain(Strategy(asked, records)) == []
    more = drain(Strategy(plan(tmp_path, trials=3), records))
    assert len(more) == 0  # the space has three points and all are known
    stopped = [
        record(first[0], "stopped"),
        record(first[1], "diverged"),
        record(first[2], "stopped"),
    ]
    assert len(drain(Strategy(asked, stopped))) == 1


def test_unfinished_and_failed_trials_go_on_in_their_own_runs(tmp_path: Path):
    asked = plan(tmp_path)
    first = drain(Strategy(asked, []))
    outcomes = ["complete", "failed", "interrupted", "running"]
    strategy = Strategy(asked, [record(t, o, 0.4) for t, o in zip(first, outcomes, strict=True)])
    again = drain(strategy)
    assert [trial.key for trial in again] == [trial.key for trial in first[1:]]
    assert [trial.config for trial in again] == [trial.config for trial in first[1:]]
    assert all(strategy.run_ids[trial.key] == f"run-{trial.key}" for trial in again)


def test_what_version_0_1_0_left_unfinished_is_trained_anew(tmp_path: Path):
    """Its checkpoints are of another form, so those trials get runs of their own."""
    asked = plan(tmp_path)
    first = drain(Strategy(asked, []))
    outcomes = ["complete", "interrupted", "stopped", "running"]
    records = [record(t, o, 0.4)._replace(tags={}) for t, o in zip(first, outcomes, strict=True)]
    strategy = Strategy(asked, records)
    assert strategy.reused == 2
    assert first[1].key not in strategy.run_ids
    again = drain(strategy)
    assert again[0].key == first[1].key
    assert len(again) == 2


def test_the_sampler_hears_of_everything(tmp_path: Path):
    strategy = Strategy(plan(tmp_path), [])
    outcomes = iter(
        [("complete", told(0.3)), ("complete", told(0.4)), ("stopped", told(0.2)), ("diverged", {})]
    )
    while trial := strategy.next():
        strategy.finish(trial, *next(outcomes))
    states = [
        (trial.state.name, trial.value)
        for trial in strategy.searches["search"].sampler.study.trials
    ]
    # "one" has K = 5, which is not in the space; the value of a trial that was stopped early does
    # not count as one of a completed trial.
    assert {state for state in states if state[0] != "COMPLETE"} == {
        ("PRUNED", None),
        ("FAIL", None),
    }
    assert ("COMPLETE", 0.4) in states
    assert ("COMPLETE", 0.3) not in states


def test_a_restart_does_not_ask_the_same_again(tmp_path: Path):
    text = TEXT.replace("alignment.k: [3, 4, 6], alignment.mode: [lkm]", "loss_weights:")
    asked = plan(tmp_path, text)
    first = [trial for trial in drain(Strategy(asked, [])) if trial.arm == "search"]
    again = drain(
        Strategy(
            plan(tmp_path, text, trials=4), [record(trial, "complete", 0.1) for trial in first]
        )
    )
    assert not {trial.key for trial in again} & {trial.key for trial in first}


def find_all(asked: Plan) -> dict[str, FinishedTraining]:
    """Let another study have finished every trial that this plan can ask for."""
    keys = [trial.key for trial in drain(Strategy(asked, []))]
    return {key: FinishedTraining(f"run-{key}", "other", key) for key in keys}


def test_arms_that_other_studies_have_trained_are_taken_over_at_the_start(tmp_path: Path):
    asked = plan(tmp_path)
    one, two, *_ = drain(Strategy(asked, []))
    strategy = Strategy(asked, [], elsewhere={two.key: FinishedTraining("run", "other", two.key)})
    assert [trial.arm for trial in strategy.taken_over] == ["two"]
    assert (strategy.total, strategy.reused) == (4, 1)
    assert strategy.next() == one
    for trial in strategy.taken_over:
        strategy.finish(trial, "complete", told(0.5))
    # The sampler knows the point that was taken over.
    assert {k(trial.config) for trial in drain(strategy)} == {3, 4}


def test_an_interrupted_trial_continues_though_another_study_has_it(tmp_path: Path):
    asked = plan(tmp_path)
    first, *_ = drain(Strategy(asked, []))
    begun = [record(first, "interrupted")]
    strategy = Strategy(asked, begun, elsewhere=find_all(asked))
    assert first not in strategy.taken_over
    assert strategy.next() == first


def test_what_a_scheduler_may_stop_is_trained(tmp_path: Path):
    for scheduler in ("asha", "none"):
        asked = plan(tmp_path, TEXT.replace("random", f"random, scheduler: {scheduler}"))
        strategy = Strategy(asked, [], elsewhere=find_all(asked))
        assert len(strategy.taken_over) == 2  # the arms
        searched = drain(strategy)
        found = [bool(strategy.find_elsewhere(trial)) for trial in searched]
        assert found == [scheduler == "none"] * 2
