"""`avsc-core train`: one configuration trained and recorded, like a trial of a study.

Plain: train on the training split, watch validation, keep the last epoch's model; the test split
stays unread. The winner of a study (`--best`): train on train plus validation for as many epochs as
its study selected (the mean over seeds), with nothing left to select, then read the test split
once, record `test_acc` and `test_logloss`, and register the model in MLflow.

`check_winner` first trains the winning trial again, on the study's own split, and compares: what a
record says is believed once it came out again. `verdict` of the check goes into the model.

A training that was interrupted continues in the same run when the same command is given again.
While it runs, another process cannot start it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy import ndarray

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.data.features import Features
from avsc_core.errors import Diverged, Fault, NotReproduced, make_error
from avsc_core.evaluation.evaluate import (
    Evaluation,
    Provenance,
    Trained,
    evaluate_rows,
    save_trained,
)
from avsc_core.evaluation.figures import draw_confusions
from avsc_core.evaluation.intervals import Estimate, estimate_scores
from avsc_core.metrics import format_confusions, format_predictions, parse_predictions
from avsc_core.processes import Progress, no_progress
from avsc_core.record.address import TRAININGS, locate_checkpoint
from avsc_core.record.environment import describe_environment
from avsc_core.record.recorder import Recorder
from avsc_core.record.study_document import name_place_in_paper
from avsc_core.record.trials import ARM
from avsc_core.record.winner import Winner, average
from avsc_core.resolve import find_given_encodings, flatten, format_value, identify, trial_key
from avsc_core.terminal import err
from avsc_core.trainer.checkpoint import CheckpointFile
from avsc_core.trainer.frozen import load_given_encodings, restore_encoders
from avsc_core.trainer.loop import Epoch, check_training_rows, fit
from avsc_core.weights.pretrained import check_pretrained
from avsc_core.weights.sources import hash_source

Report = Callable[[Epoch, int], None]  # (epoch, number of epochs)


class Result(NamedTuple):
    """The result of a training."""

    run_id: str
    metrics: dict[str, float]  # test_* of a retrained winner, val_* of a plain training
    registered: str  # models:/NAME@ALIAS of a retrained winner


class Check(NamedTuple):
    """A trial of the record beside the same training done again."""

    run_id: str  # of the training done again
    metric: str  # the study's deciding one
    recorded: float
    again: float
    low: float  # 95 % interval of the recorded figure; nan when its clips do not give one
    high: float
    exact: bool  # whether every probability came out to the last digit

    @property
    def is_met(self) -> bool:
        """Whether the figure came out within its interval; without one, the same."""
        if np.isnan(self.low):
            return self.exact or bool(np.isclose(self.again, self.recorded))
        return self.exact or self.low <= self.again <= self.high

    @property
    def verdict(self) -> str:
        """Say in one line how it came out."""
        if self.exact:
            return f"{self.metric} {self.again:.4f} again, every probability to the last digit"
        if np.isnan(self.low):
            return (
                f"{self.metric} {self.again:.4f}; the trial's {self.recorded:.4f} has no interval"
            )
        place = "within" if self.is_met else "outside"
        interval = f"95 % interval {self.low:.4f} to {self.high:.4f} ({self.recorded:.4f})"
        return f"{self.metric} {self.again:.4f}, {place} the trial's {interval}"


class Parts(NamedTuple):
    """The rows of a training, and how long it takes."""

    train: ndarray  # rows
    watched: ndarray  # rows scored after every epoch; none for a winner
    scored: ndarray  # rows scored at the end
    split: str  # `val` or `test`, what `scored` is
    epochs: int


class Task(NamedTuple):
    """What a training is for."""

    kind: str  # training, or check
    winner: Winner | None
    parts: Parts

    @property
    def experiment(self) -> str:
        """The experiment of its run."""
        return self.winner.study if self.winner else "training"

    @property
    def metric(self) -> str:
        """The metric that decides which epoch is best."""
        return self.winner.metric if self.winner else "val_acc"


def check_data(winner: Winner, data: DataSet) -> None:
    """Check that a winner is retrained on the data set it won on. Raises UserError."""
    tags = winner.trial.tags
    if tags["avsc.data_fingerprint"] != data.fingerprint:
        studied = f"the study ran on {tags['avsc.data']}"
        raise make_error(
            "--data",
            f"{studied}, this is {data.title}, or its files have changed",
            todo="give --data as the study was given it",
        )


@contextmanager
def use_threads(winner: Winner | None) -> Iterator[None]:
    """Compute with the number of threads that a winner's trial is recorded with, where it is known.

    Sums of several threads are added in another order, which changes digits. And a study has set
    the number aside for each trial: where something else runs, more threads are slower by far.
    """
    before = torch.get_num_threads()
    recorded = winner.trial.tags.get("avsc.threads", "") if winner else ""
    if recorded.isdigit():
        torch.set_num_threads(int(recorded))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_recorded(
    recorder: Recorder,
    config: Config,
    features: Features,
    report: Report,
    winner: Winner | None = None,
    progress: Progress = no_progress,
    verdict: str = "",  # of the winner's check
) -> Result:
    """Train `config`, plainly or as the retraining of `winner`.

    `report` gets each epoch, and their number.

    Raises UserError when another process runs the same training, when there are no clips to train
    on, or when a loss is no longer finite.
    """
    data = features.data
    parts = _choose_parts(config, data, winner)
    task = Task("training", winner, parts)
    with (
        use_threads(winner),
        _run_epochs(recorder, task, config, features, report, progress) as (run_id, epoch),
    ):
        # scores, tables, picture and model of the last epoch
        evaluation = evaluate_rows(epoch.model, epoch.inputs, parts.scored, config)
        metrics = {f"{parts.split}_{name}": value for name, value in evaluation.metrics.items()}
        provenance = _describe_provenance(recorder, config, data, winner, verdict)
        _record_tables(recorder, run_id, data, evaluation, parts.split)
        source = _record_model(recorder, run_id, config, epoch, provenance)
        registered = ""
        if winner:
            version = recorder.register_model(run_id, source, f"avsc-{winner.study}", "best")
            registered = f"models:/avsc-{winner.study}@best"
            metrics["model_version"] = float(version)
        recorder.end_run(run_id, "complete", metrics, {"avsc.check": verdict})
    return Result(run_id, metrics, registered)


def check_winner(
    recorder: Recorder,
    config: Config,  # the winner's; device, workers and compute may be others
    features: Features,
    report: Report,
    winner: Winner,
    progress: Progress = no_progress,
) -> Check:
    """Train the winning trial again as its study did, and compare the figures.

    The training is a run of its own, of kind `check`, which counts neither as a trial nor as a
    retraining. The test split is not read. Raises NotReproduced when the figure comes out outside
    its interval, and UserError as `train_recorded` does.
    """
    # the trial's own validation clips, number of threads and kind of device
    trial = winner.trial
    data = features.data
    lines = recorder.read_lines(trial.run_id, "predictions_val.tsv")
    names, recorded = parse_predictions("\n".join(lines))  # (N,S)
    parts = _choose_parts_of_trial(config, data, names)
    if trial.tags.get("avsc.device", "").startswith("cpu"):
        config = config.model_copy(update={"device": "cpu"})

    task = Task("check", winner, parts)
    with (
        use_threads(winner),
        _run_epochs(recorder, task, config, features, report, progress) as (run_id, epoch),
    ):
        # the figures of the epochs that the study's rule selects
        assert epoch.selection is not None  # a trial has validation clips
        summary = epoch.selection.summarise(winner.rule)
        again = epoch.selection.select(winner.rule).probability
        interval = _estimate_interval(recorded, data, parts.watched, winner.metric)
        check = Check(
            run_id=run_id,
            metric=winner.metric,
            recorded=average([trial], winner.metric),
            again=summary[f"selected_{winner.metric}"],
            low=interval.low,
            high=interval.high,
            exact=np.array_equal(again, recorded),
        )
        recorder.end_run(run_id, "complete", summary, {"avsc.check": check.verdict})

    if not check.is_met:
        raise _make_miss(check.verdict)
    return check


@contextmanager
def _run_epochs(
    recorder: Recorder,
    task: Task,
    config: Config,
    features: Features,
    report: Report,
    progress: Progress,
) -> Iterator[tuple[str, Epoch]]:
    """Train, and yield the id of the run and its last epoch; the caller ends the run.

    The run is a new one, or that of the same training when it was interrupted.
    """
    data = features.data
    parts = task.parts
    name = f"{task.experiment}-{task.kind}-{trial_key(config)}-{data.fingerprint[:16]}"
    with _lock_training(locate_checkpoint(recorder.uri, TRAININGS, name).with_suffix(".lock")):
        # a run, once nothing can be wrong with rows, weights and encodings from elsewhere
        check_training_rows(parts.train)
        load_given_encodings(config, data)
        weights = [account._asdict() for account in check_pretrained(config)]
        run_id, recorded = _open_run(recorder, task, config, data, parts.epochs)
        recorder.add_environment(run_id, describe_environment(config))
        if weights:
            recorder.log_json(run_id, "weights.json", weights)
        path = locate_checkpoint(recorder.uri, TRAININGS, run_id)
        checkpoint = CheckpointFile(path, config.compute.checkpoint_minutes)

        with _end_run_on_error(recorder, run_id, checkpoint, task.kind):
            # epochs; those of an interrupted process are in the record already
            for epoch in fit(
                config,
                features,
                parts.train,
                parts.watched,
                metric=task.metric,
                epochs=parts.epochs,
                checkpoint=checkpoint,
                progress=progress,
            ):
                if epoch.number == 1 and recorded and checkpoint.missing:
                    what = f"{checkpoint.missing}; begins again at epoch 1"
                    err.print(f"note: the training: {what}", soft_wrap=True)
                if epoch.number > recorded:
                    recorder.log_epoch(run_id, epoch.number, epoch.metrics)
                report(epoch, parts.epochs)
            yield run_id, epoch
        checkpoint.remove()


@contextmanager
def _lock_training(path: Path) -> Iterator[None]:
    """Keep other processes from running the same training. Raises UserError when one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=0):
            yield
    except Timeout:
        raise make_error(
            "training",
            "the same training is running in another process",
            todo="wait for it, or train with another --set seed",
        ) from None


@contextmanager
def _end_run_on_error(
    recorder: Recorder, run_id: str, checkpoint: CheckpointFile, kind: str
) -> Iterator[None]:
    """End the run as diverged or interrupted when the training inside raises.

    Raises UserError for a training that diverged, NotReproduced for a check.
    """
    try:
        yield
    except Diverged as error:
        recorder.end_run(run_id, "diverged", {})
        checkpoint.remove()
        if kind == "check":
            raise _make_miss(f"the trial did not diverge and now does, {error}") from None
        raise make_error(
            "training", f"diverged, {error}", todo="a lower training.learning_rate"
        ) from None
    except BaseException:  # Ctrl-C and SIGTERM too: the run can be continued
        checkpoint.keep_last()
        recorder.end_run(run_id, "interrupted", {})
        raise


def _make_miss(what: str) -> NotReproduced:
    """Return the error of a trial that does not come out again."""
    todo = "see what changed since the trial, or retrain without --check"
    return NotReproduced(Fault("--check", f"{what}; the test split was not read", todo=todo))


def _choose_parts(config: Config, data: DataSet, winner: Winner | None) -> Parts:
    """Choose what to train on, watch and score: plainly, or as the retraining of a winner."""
    rows = split_rows(data, config.split)
    if not winner:
        return Parts(rows.train, rows.validation, rows.validation, "val", config.training.epochs)
    return Parts(
        train=np.sort(np.concatenate([rows.train, rows.validation])),
        watched=rows.validation[:0],
        scored=rows.test,
        split="test",
        epochs=winner.epochs,
    )


def _choose_parts_of_trial(config: Config, data: DataSet, names: list[str]) -> Parts:
    """Choose the rows that a trial was trained on, given the names of its validation clips.

    They come from the record, because another version may draw another split. Where several epochs
    are recorded, they are given once for each.
    """
    rows = split_rows(data, config.split)
    row_of = {clip.name: row for row, clip in enumerate(data.clips)}
    validation = np.array([row_of[name] for name in dict.fromkeys(names)])
    train = np.setdiff1d(np.concatenate([rows.train, rows.validation]), validation)
    return Parts(train, validation, validation, "val", config.training.epochs)


def _estimate_interval(
    probability: ndarray,  # (N,S); or those of several epochs, one after another
    data: DataSet,
    rows: ndarray,  # (N,)
    metric: str,
) -> Estimate:
    """Estimate the interval of a trial's figure over the locations of its validation clips."""
    rows = np.tile(rows, len(probability) // len(rows))
    locations = [data.clips[row].location for row in rows]
    estimates = estimate_scores(probability, data.scenes[rows], locations)
    return estimates[metric.removeprefix("val_")]


def _open_run(
    recorder: Recorder, task: Task, config: Config, data: DataSet, epochs: int
) -> tuple[str, int]:
    """Open a run, or the unfinished one of the same training.

    Returns its id and the last epoch recorded in it.
    """
    winner = task.winner
    tags = {
        "avsc.kind": task.kind,
        "avsc.arm": "winner" if winner and task.kind == "training" else task.kind,
        "avsc.study": winner.study if winner else "",
        "avsc.winner": winner.trial.run_id if winner else "",
        "avsc.data": data.title,
        "avsc.data_fingerprint": data.fingerprint,
        # Seeds that were added since may ask for fewer epochs than the checkpoint has.
        "avsc.epochs": str(epochs),
    }
    for run in recorder.list_trials(task.experiment, task.kind):
        same_tags = all(run.tags.get(name) == value for name, value in tags.items())
        unfinished = run.outcome in ("running", "interrupted")
        if same_tags and unfinished and run.can_continue and run.key == trial_key(config):
            recorder.resume_run(run.run_id)
            history = recorder.read_history(run.run_id, "train_total")
            return run.run_id, max((epoch for epoch, _ in history), default=0)
    return recorder.begin_run(task.experiment, config, tags), 0


def _describe_provenance(
    recorder: Recorder, config: Config, data: DataSet, winner: Winner | None, verdict: str
) -> Provenance:
    """Describe what a model is trained on and for."""
    given = find_given_encodings(config)
    encodings = {branch: hash_source(file) for branch, file in given.items()}
    if winner is None:
        return Provenance(splits=["train"], fingerprint=data.fingerprint, encodings=encodings)
    changed = _list_changes(winner.trial.config, config)
    return Provenance(
        splits=["train", "validation"],
        fingerprint=data.fingerprint,
        encodings=encodings,
        study=winner.study,
        trial=winner.trial.run_id,
        trial_key=winner.trial.key,
        changed=changed,
        row="" if changed else _find_row_of_paper(recorder, winner),
        check=verdict,
    )


def _list_changes(trial: Config, config: Config) -> list[str]:
    """List, as "key value", what a retraining sets otherwise than its trial, besides the seed."""
    before = dict(flatten(identify(trial)))
    now = dict(flatten(identify(config)))
    return [
        f"{key} {format_value(value)}"
        for key, value in now.items()
        if key != "seed" and before.get(key) != value
    ]


def _find_row_of_paper(recorder: Recorder, winner: Winner) -> str:
    """Return table and row of the figures beside which the winner's arm stands, if it is an arm."""
    document = recorder.read_study_document(recorder.get_study(winner.study).run_id)
    names = winner.trial.arm.split(" = ") if winner.trial.role == ARM else []
    for arm in document.get("metadata", {}).get("arms", []):
        published = arm["published"]
        if published and arm["name"] in names:
            return name_place_in_paper(published)
    return ""


def _record_tables(
    recorder: Recorder, run_id: str, data: DataSet, evaluation: Evaluation, split: str
) -> None:
    """Record predictions and confusions, these as a table and as a picture."""
    probability = evaluation.probability  # (N,S)
    scenes = evaluation.scenes  # (N,)
    predictions = format_predictions(evaluation.names, probability, data.scene_names)
    confusions = format_confusions(probability, scenes, data.scene_names)
    recorder.log_text(run_id, f"predictions_{split}.tsv", predictions)
    recorder.log_text(run_id, f"confusion_{split}.tsv", confusions)
    with TemporaryDirectory() as name:
        picture = Path(name) / f"confusion_{split}.png"
        title = f"{split} clips of {data.title}"
        draw_confusions(picture, probability, scenes, data.scene_names, title)
        recorder.log_file(run_id, picture)


def _record_model(
    recorder: Recorder, run_id: str, config: Config, epoch: Epoch, provenance: Provenance
) -> str:
    """Record the model, with the frozen encoders that its training did without.

    Returns its address.
    """
    data = epoch.inputs.features.data
    trained = Trained(
        model=restore_encoders(epoch.model, config),
        config=config,
        scale=epoch.inputs.scale,
        event_names=data.event_names,
        object_names=data.object_names,
        scene_names=list(data.scene_names),
        trained_on=data.title,
        provenance=provenance,
    )
    with TemporaryDirectory() as name:
        folder = Path(name) / "model"
        save_trained(folder, trained)
        return recorder.log_folder(run_id, folder, "model")
