"""What a notebook or a script needs: configurations, training, evaluation, prediction, studies.

These functions call the same code as the command lines, and train into the same record. `avsc_core`
offers them as `avsc_core.train` and so on. torch, mlflow and pandas are imported inside the
functions that need them, so that a configuration can be loaded without them.

`data` is the folder of a data set; without it the embedded scenes are used. `tracking_uri` is the
address of an MLflow record; without it the record is an SQLite file in `mlruns/`. A `reference`
names a trained model: an MLflow run id, `best:STUDY`, `models:/NAME@ALIAS`, or a model folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from avsc_core.config import Config
from avsc_core.errors import make_error
from avsc_core.resolve import Override, flatten, list_presets, read_overrides, resolve
from avsc_core.terminal import progress

if TYPE_CHECKING:
    import pandas as pd

    from avsc_core.evaluation.evaluate import Evaluation, Trained
    from avsc_core.evaluation.retrain import Result

Split = Literal["train", "validation", "test"]
Protocol = Literal["clip", "segment"]


def load_config(source: str | Path = "paper", overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the configuration of a preset or of a YAML file, with `overrides` applied.

    `overrides` are settings by dotted key (`{"alignment.k": 10}`) or nested. A file states its
    difference from preset `paper`, as `avsc-search export` writes it. Raises UserError with every
    fault.
    """
    given = [Override(key, value, "overrides") for key, value in flatten(overrides or {})]
    if str(source) in list_presets():
        return resolve(str(source), given)
    if Path(source).is_file():
        return resolve("paper", [*read_overrides(Path(source)), *given])
    raise make_error(
        source, "is neither a preset nor a file", f"{', '.join(list_presets())}, or a YAML file"
    )


def train(
    config: Config, data: str | Path | None = None, tracking_uri: str | None = None
) -> "Result":
    """Train one configuration and record it; the same training continues where it was interrupted.

    The result has the id of the run and the metrics on the validation clips (`val_acc`,
    `val_logloss`, ...). The test split is not read. Raises UserError.
    """
    from avsc_core.data.features import build_features, open_data
    from avsc_core.evaluation.retrain import train_recorded
    from avsc_core.record.recorder import Recorder

    recorder = Recorder(tracking_uri)
    with progress() as show:
        features = build_features(open_data(data, show), config, show)
        return train_recorded(
            recorder,
            config,
            features,
            lambda epoch, epochs: show("training", epoch.number, epochs),
            progress=show,
        )


def load_model(reference: str | Path, tracking_uri: str | None = None) -> "Trained":
    """Load a trained model with its configuration and its class names. Raises UserError."""
    from avsc_core.evaluation.evaluate import load_trained
    from avsc_core.record.address import find_missing_file
    from avsc_core.record.models import fetch_model
    from avsc_core.record.reading.record import Record

    # A model of the record is downloaded first. A record that does not exist is not created.
    folder = Path(reference)
    if not folder.is_dir():
        if file := find_missing_file(tracking_uri):
            raise make_error(
                reference,
                f"no model there ({file}: no record in this folder)",
                "a run id, best:STUDY, models:/NAME@ALIAS or a folder",
            )
        folder = fetch_model(Record(tracking_uri), str(reference))
    return load_trained(folder)


def evaluate(
    model: "str | Path | Trained",
    data: str | Path | None = None,
    split: Split = "test",
    protocol: Protocol = "clip",
    tracking_uri: str | None = None,
) -> "Evaluation":
    """Score a model on a split of a data set: probabilities (N,S) and metrics.

    `model` is a reference or a loaded model. Protocol `clip` decides once for a clip of 10 s,
    `segment` once for a second. Raises UserError.
    """
    from avsc_core.data.features import open_data
    from avsc_core.evaluation.evaluate import evaluate_split

    trained = _ensure_loaded(model, tracking_uri)
    with progress() as show:
        return evaluate_split(trained, open_data(data, show), split, show, protocol)


def predict(
    model: "str | Path | Trained", file: str | Path, tracking_uri: str | None = None
) -> dict[str, Any]:
    """Classify one clip, given its wav or mp4 with the other beside it.

    Returns `scenes`, the probability of each scene, and `events` and `objects`, the probabilities
    of the likeliest ones, each by name. `model` is a reference or a loaded model. Raises UserError.
    """
    from avsc_core.evaluation.evaluate import find_pair, predict_file

    audio, video = find_pair(Path(file))
    return predict_file(_ensure_loaded(model, tracking_uri), audio, video)


def open_study(name: str, tracking_uri: str | None = None) -> "pd.DataFrame":
    """Return the trials of a recorded study, one row for each: settings, outcome and metrics.

    Raises UserError when there is no record or no such study.
    """
    from avsc_core.record.frame import trial_frame
    from avsc_core.record.reading.record import open_record

    return trial_frame(open_record(tracking_uri), name)


def _ensure_loaded(model: "str | Path | Trained", tracking_uri: str | None) -> "Trained":
    """Return a loaded model as it is, and load a reference."""
    return load_model(model, tracking_uri) if isinstance(model, str | Path) else model
