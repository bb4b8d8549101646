"""`avsc-core train`: one configuration trained and recorded, like a trial of a study.

Plain: train on the training split, watch validation, keep the last epoch's model; the test split
stays unread. The winner of a study (`--best`): train on train plus validation for as many epochs as
its best epoch had, with nothing left to select, then read the test split once, record `test_acc`
and `test_logloss`, and register the model in MLflow.

A training that was interrupted continues in the same run when the same command is given again.
While it runs, another process cannot start it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy import ndarray

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.data.features import Features
from avsc_core.errors import Diverged, make_error
from avsc_core.evaluation.evaluate import Evaluation, Trained, evaluate_rows, save_trained
from avsc_core.evaluation.figures import draw_confusions
from avsc_core.metrics import format_confusions, format_predictions
from avsc_core.processes import Progress, no_progress
from avsc_core.record.address import CHECKPOINTS
from avsc_core.record.recorder import Recorder
from avsc_core.record.winner import Winner
from avsc_core.resolve import trial_key
from avsc_core.trainer.frozen import restore_encoders
from avsc_core.trainer.loop import Epoch, fit
from avsc_core.weights.pretrained import check_pretrained

FOLDER = CHECKPOINTS / "training"

Report = Callable[[Epoch, int], None]  # (epoch, number of epochs)


class Result(NamedTuple):
    """The result of a training."""

    run_id: str
    metrics: dict[str, float]  # test_* of a retrained winner, val_* of a plain training
    registered: str  # models:/NAME@ALIAS of a retrained winner


class Parts(NamedTuple):
    """The rows of a training, and how long it takes."""

    train: ndarray  # rows
    watched: ndarray  # rows scored after every epoch; none for a winner
    scored: ndarray  # rows scored at the end
    split: str  # `val` or `test`, what `scored` is
    epochs: int


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


def train_recorded(
    recorder: Recorder,
    config: Config,
    features: Features,
    report: Report,
    winner: Winner | None = None,
    progress: Progress = no_progress,
) -> Result:
    """Train `config`, plainly or as the retraining of `winner`.

    `report` gets each epoch, and their number.

    Raises UserError when another process runs the same training, or when a loss is no longer
    finite.
    """
    data = features.data
    experiment = winner.study if winner else "training"
    with _lock_training(f"{experiment}-{trial_key(config)}-{data.fingerprint[:16]}"):
        # a run, once nothing can be wrong with the weights
        parts = _choose_parts(config, data, winner)
        weights = [account._asdict() for account in check_pretrained(config)]
        run_id, recorded = _open_run(recorder, config, data, winner)
        if weights:
            recorder.log_json(run_id, "weights.json", weights)
        checkpoint = FOLDER / f"{run_id}.pt"

        with _end_run_on_error(recorder, run_id, checkpoint):
            # epochs; those of an interrupted process are in the record already
            for epoch in fit(
                config,
                features,
                parts.train,
                parts.watched,
                epochs=parts.epochs,
                checkpoint=checkpoint,
                progress=progress,
            ):
                if epoch.number > recorded:
                    recorder.log_epoch(run_id, epoch.number, epoch.metrics)
                report(epoch, parts.epochs)

            # scores, tables, picture and model of the last epoch
            evaluation = evaluate_rows(epoch.model, epoch.inputs, parts.scored, config)
            metrics = {f"{parts.split}_{name}": value for name, value in evaluation.metrics.items()}
            source = _record_files(recorder, run_id, config, epoch, evaluation, parts.split)
            registered = ""
            if winner:
                version = recorder.register_model(run_id, source, f"avsc-{winner.study}", "best")
                registered = f"models:/avsc-{winner.study}@best"
                metrics["model_version"] = float(version)
            recorder.end_run(run_id, "complete", metrics)

        checkpoint.unlink(missing_ok=True)
        return Result(run_id, metrics, registered)


@contextmanager
def _lock_training(name: str) -> Iterator[None]:
    """Keep other processes from running the same training. Raises UserError when one does."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(FOLDER / f"{name}.lock", timeout=0):
            yield
    except Timeout:
        raise make_error(
            "training",
            "the same training is running in another process",
            todo="wait for it, or train with another --set seed",
        ) from None


@contextmanager
def _end_run_on_error(recorder: Recorder, run_id: str, checkpoint: Path) -> Iterator[None]:
    """End the run as diverged or interrupted when the training inside raises.

    Raises UserError for a training that diverged.
    """
    try:
        yield
    except Diverged as error:
        recorder.end_run(run_id, "diverged", {})
        checkpoint.unlink(missing_ok=True)
        raise make_error(
            "training", f"diverged, {error}", todo="a lower training.learning_rate"
        ) from None
    except BaseException:  # Ctrl-C and SIGTERM too: the run can be continued
        recorder.end_run(run_id, "interrupted", {})
        raise


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
        epochs=round(winner.trial.metrics["best_epoch"]),
    )


def _open_run(
    recorder: Recorder, config: Config, data: DataSet, winner: Winner | None
) -> tuple[str, int]:
    """Open a run, or the unfinished one of the same training.

    Returns its id and the last epoch recorded in it.
    """
    experiment = winner.study if winner else "training"
    tags = {
        "avsc.kind": "training",
        "avsc.arm": "winner" if winner else "training",
        "avsc.study": winner.study if winner else "",
        "avsc.winner": winner.trial.run_id if winner else "",
        "avsc.data": data.title,
        "avsc.data_fingerprint": data.fingerprint,
    }
    for run in recorder.list_trials(experiment, "training"):
        same_tags = all(run.tags.get(name) == value for name, value in tags.items())
        unfinished = run.outcome in ("running", "interrupted")
        if same_tags and unfinished and run.can_continue and run.key == trial_key(config):
            return run.run_id, recorder.resume_run(run.run_id)
    return recorder.begin_run(experiment, config, tags), 0


def _record_files(
    recorder: Recorder,
    run_id: str,
    config: Config,
    epoch: Epoch,
    evaluation: Evaluation,
    split: str,
) -> str:
    """Record predictions, confusions and the model; return the address of the model."""
    data = epoch.inputs.features.data
    probability = evaluation.probability  # (N,S)
    scenes = evaluation.scenes  # (N,)

    # tables
    predictions = format_predictions(evaluation.names, probability, data.scene_names)
    confusions = format_confusions(probability, scenes, data.scene_names)
    recorder.log_text(run_id, f"predictions_{split}.tsv", predictions)
    recorder.log_text(run_id, f"confusion_{split}.tsv", confusions)

    with TemporaryDirectory() as name:
        # the whole model, with the frozen encoders that its training did without
        folder = Path(name) / "model"
        trained = Trained(
            model=restore_encoders(epoch.model, config),
            config=config,
            scale=epoch.inputs.scale,
            event_names=data.event_names,
            object_names=data.object_names,
            scene_names=list(data.scene_names),
            trained_on=data.title,
        )
        save_trained(folder, trained)
        source = recorder.log_folder(run_id, folder, "model")

        # the picture of confusions
        picture = Path(name) / f"confusion_{split}.png"
        title = f"{split} clips of {data.title}"
        draw_confusions(picture, probability, scenes, data.scene_names, title)
        recorder.log_file(run_id, picture)
    return source
