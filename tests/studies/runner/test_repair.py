"""Whatever a kill leaves between two writes is put right by the next start, and nothing else is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from avsc_core.config import Config
from avsc_core.record.address import locate_state
from avsc_core.record.recipe import compute_recipe
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import OUTCOMES
from avsc_core.resolve import list_settings, trial_key
from studies.runner.repair import repair_study
from tests.builders.records import fresh_record

TAGS = {
    "avsc.kind": "trial",
    "avsc.study": "s",
    "avsc.role": "arm",
    "avsc.arm": "row 1",
    "avsc.data": "d",
    "avsc.data_fingerprint": "f",
}


class Killed(Exception):
    """Stands for a SIGKILL between two calls of MLflow."""


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return fresh_record(tmp_path)


@pytest.fixture
def kill_after(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Return a function that runs an action and kills it after so many writes of MLflow's.

    It tells whether the action was killed, and not over before.
    """
    writes = ("create_run", "log_batch", "set_terminated", "update_run")

    def run(count: int, action: Callable[[], object]) -> bool:
        left = [count]
        with monkeypatch.context() as patch:
            for name in writes:
                write = getattr(recorder.client, name)

                def call(*args: object, write: Callable[..., object] = write, **kwargs: object):
                    if not left[0]:
                        raise Killed
                    left[0] -= 1
                    return write(*args, **kwargs)

                patch.setattr(recorder.client, name, call)
            try:
                action()
            except Killed:
                return True
        return False

    return run


def read_status(recorder: Recorder, run_id: str) -> tuple[str, str]:
    run = recorder.client.get_run(run_id)
    return run.data.tags["avsc.outcome"], run.info.status


def check_whole(recorder: Recorder, config: Config) -> None:
    """Check that every trial has its params, and the status of its outcome."""
    for run in recorder.find_runs("s", "trial"):
        assert set(recorder.reader.read_params(run.run_id)) == set(list_settings(config))
        assert run.status == OUTCOMES[run.tags["avsc.outcome"]]


@pytest.mark.parametrize("count", range(8))
def test_a_trial_killed_between_any_two_writes(
    recorder: Recorder, tiny: Config, kill_after: Callable[..., bool], count: int
):
    ended = []

    def train() -> None:
        run_id = recorder.begin_run("s", tiny, TAGS)
        recorder.log_epoch(run_id, 1, {"train_total": 1.0})
        recorder.end_run(run_id, "interrupted", {})
        recorder.resume_run(run_id)
        ended.append(run_id)

    was_killed = kill_after(count, train)
    repair_study(recorder, "s")
    check_whole(recorder, tiny)
    trials = recorder.list_trials("s")
    assert len(trials) == min(count, 1)
    assert {trial.outcome for trial in trials} <= {"interrupted"}
    assert was_killed == (not ended)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_without_its_status(
    recorder: Recorder, tiny: Config, kill_after: Callable[..., bool], outcome: str
):
    run_id = recorder.begin_run("s", tiny, TAGS)
    assert kill_after(1, lambda: recorder.end_run(run_id, outcome, {"best_val_acc": 0.5}))
    assert read_status(recorder, run_id) == (outcome, "RUNNING")
    repair_study(recorder, "s")
    assert read_status(recorder, run_id) == (outcome, OUTCOMES[outcome])
    assert recorder.list_trials("s")[0].metrics["best_val_acc"] == 0.5


def test_a_status_without_its_outcome(recorder: Recorder, tiny: Config):
    run_id = recorder.begin_run("s", tiny, TAGS)
    recorder.client.set_terminated(run_id, "FINISHED")  # as in MLflow's own pages
    repair_study(recorder, "s")
    assert read_status(recorder, run_id) == ("interrupted", "KILLED")


@pytest.mark.parametrize("count", range(6))
def test_a_copy_killed_between_any_two_writes(
    recorder: Recorder, tiny: Config, kill_after: Callable[..., bool], count: int
):
    source_id = recorder.begin_run("t", tiny, TAGS | {"avsc.study": "t"})
    recorder.log_epoch(source_id, 1, {"train_total": 1.0})
    recorder.log_text(source_id, "predictions_val.tsv", "text")
    recorder.end_run(source_id, "complete", {"best_val_acc": 0.7})
    (source,) = recorder.list_finished_trainings("f", compute_recipe())

    kill_after(count, lambda: recorder.take_over_run(source, "s", TAGS, "parent"))
    repair_study(recorder, "s")
    check_whole(recorder, tiny)
    if not recorder.list_trials("s"):
        recorder.take_over_run(source, "s", TAGS, "parent")
    (trial,) = recorder.list_trials("s")
    assert (trial.outcome, trial.taken_from, trial.metrics["best_val_acc"]) == (
        "complete",
        "t",
        0.7,
    )
    assert recorder.read_lines(trial.run_id, "predictions_val.tsv") == ["text"]
    assert len(recorder.client.search_runs([recorder.open_experiment("s")])) == 1


@pytest.mark.parametrize("count", range(4))
def test_a_study_killed_while_it_is_opened(
    recorder: Recorder, kill_after: Callable[..., bool], count: int
):
    document = {"definition": {"metric": "val_acc"}}
    kill_after(count, lambda: recorder.open_study_run("s", {"avsc.metric": "val_acc"}, document))
    repair_study(recorder, "s")
    for run in recorder.find_runs("s", "study"):
        assert read_status(recorder, run.run_id) == ("interrupted", "KILLED")
    run_id = recorder.open_study_run("s", {"avsc.metric": "val_acc"}, document)
    assert recorder.read_definition(run_id) == {"metric": "val_acc"}
    assert len(recorder.find_runs("s", "study")) == 1


def test_checkpoints_of_trials_that_are_over_are_removed(recorder: Recorder, tiny: Config):
    folder = locate_state(recorder.uri) / "checkpoints" / "s"
    folder.mkdir(parents=True)
    for seed, outcome in enumerate(("complete", "stopped", "diverged", "interrupted", "running")):
        config = tiny.model_copy(update={"seed": seed})
        run_id = recorder.begin_run("s", config, TAGS)
        if outcome != "running":
            recorder.end_run(run_id, outcome, {})
        for suffix in (".pt", ".pt.previous"):
            (folder / f"{trial_key(config)}{suffix}").write_text(outcome)
    (folder / ".half.pt.abc.pt").write_text("not written to its end")
    (folder / "notes.txt").write_text("not ours")
    (folder / "other.pt").write_text("of no trial that the record knows")

    repair_study(recorder, "s")
    left = sorted(path.read_text() for path in folder.iterdir())
    kept = ["interrupted"] * 2 + ["running"] * 2
    assert left == sorted([*kept, "not ours", "of no trial that the record knows"])


def test_what_is_whole_stays_as_it_is(recorder: Recorder, tiny: Config):
    """Runs of `avsc-core train` and of other people in the same experiment are not touched."""
    others = [
        recorder.begin_run("s", tiny, TAGS | {"avsc.kind": "training"}),
        recorder.client.create_run(recorder.open_experiment("s"), run_name="mine").info.run_id,
    ]
    run_id = recorder.begin_run("s", tiny, TAGS)
    recorder.end_run(run_id, "complete", {})
    before = [recorder.client.get_run(run).info.end_time for run in (run_id, *others)]
    repair_study(recorder, "s")
    after = [recorder.client.get_run(run).info.end_time for run in (run_id, *others)]
    assert after == before
    assert {recorder.client.get_run(run).info.status for run in others} == {"RUNNING"}
