"""`avsc-core`: data, training, evaluation and prediction on the command line.

A command checks its arguments, calls functions of the package, and prints what they return
(`display.py`). Modules that take long to import (torch, mlflow) are imported inside the commands,
so that `--help` and a wrong flag answer at once.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, collect_faults, make_error
from avsc_core.processes import Progress
from avsc_core.resolve import (
    Override,
    format_value,
    list_presets,
    list_settings,
    parse_set,
    read_overrides,
    resolve,
    trial_key,
)
from avsc_core.terminal import Data, Uri, err, out, progress, run_app

if TYPE_CHECKING:
    from avsc_core.evaluation.evaluate import Evaluation, Trained
    from avsc_core.record.recorder import Recorder
    from avsc_core.record.winner import Winner
    from avsc_core.trainer.loop import Epoch

app = typer.Typer(
    help="Audio-visual scene classification: data, training, evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PRESETS = ", ".join(list_presets())
Folder = Annotated[Path, Argument(help="Folder of the data set.")]
Preset = Annotated[
    str | None, Option("--preset", help=f"{PRESETS}; demo without --data, paper with it.")
]
OnePreset = Annotated[str, Option("--preset", help=f"{PRESETS}.")]
Set = Annotated[
    list[str] | None, Option("--set", help="key=value over the preset; may be repeated.")
]
ModelName = Annotated[
    str, Argument(help="MLflow run id, best:STUDY, models:/NAME@ALIAS, or a folder.")
]


def main() -> None:
    """Entry point of the command `avsc-core`."""
    run_app(app)


@app.command("demo-data")
def demo_data(
    folder: Annotated[Path, Argument(help="A new folder.")],
    clips_per_scene: Annotated[int, Option(min=3, help="Clips for each of the ten scenes.")] = 40,
    seed: Annotated[int, Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Write the embedded scenes in the data set's own layout.

    Example: avsc-core demo-data scenes --clips-per-scene 8
    """
    from avsc_core.demo.scenes import write_demo

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise make_error(folder, "exists and is not empty", "a new or empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise make_error(folder, f"no folder can be made there ({error.strerror})") from None
    with progress() as show:
        write_demo(folder, clips_per_scene, seed, progress=partial(show, "writing clips"))
    out.print(f"{10 * clips_per_scene} clips in {folder}")


@app.command()
def check(
    folder: Folder,
    deep: Annotated[bool, Option("--deep", help="Decode every clip, not only its header.")] = False,
    skip_bad: Annotated[
        bool, Option("--skip-bad", help="Leave bad clips out from now on (skip.tsv).")
    ] = False,
    workers: Annotated[int, Option(min=0, help="Processes; 0: one per core.")] = 0,
    sets: Set = None,
) -> None:
    """Check a data set's tables, files and labels: every fault with file and row, and \
what it is made of.

    Example: avsc-core check /data/TAU-urban-audio-visual-scenes-2021-development --deep
    """
    media = resolve("paper", parse_set(sets)).media
    from avsc_core import display
    from avsc_core.data.inspect import inspect, leave_out_bad, list_faults
    from avsc_core.data.layout import read_skipped

    with progress() as show:
        inspection = inspect(folder, media, deep, workers, show)
    faults = list_faults(inspection)
    label_faults: list[Fault] = []

    # Without clips there is nothing to show but the faults, which end up on standard error.
    if inspection.clips:
        display.print_inspection(folder, inspection)
        with collect_faults(label_faults):
            display.print_labels(folder)
        faults += label_faults
        if faults:
            display.print_faults(faults)

    # Bad clips that are left out are no longer faults of the data set.
    bad = len(inspection.bad)
    if skip_bad and bad:
        path = leave_out_bad(folder, inspection)
        out.print(f"{bad} clips are left out from now on: {path}", soft_wrap=True)
        faults = inspection.faults + label_faults
    skipped = read_skipped(folder)
    if skipped and not bad:
        out.print(f"{len(skipped)} clips are left out by skip.tsv", soft_wrap=True)
    if faults:
        raise UserError(faults)
    out.print("nothing else wrong" if bad else "nothing wrong")


@app.command()
def features(
    folder: Folder,
    preset: OnePreset = "paper",
    sets: Set = None,
    verify: Annotated[
        bool, Option("--verify", help="Check every row, compute damaged ones again.")
    ] = False,
    prune: Annotated[
        float | None, Option(min=0, help="Delete what nobody used for so many days.")
    ] = None,
) -> None:
    """Compute the features of every clip into the cache, where all trials share them.

    Example: avsc-core features /data/TAU --preset paper --verify
    """
    config = resolve(preset, parse_set(sets))
    from avsc_core import display
    from avsc_core.cache import store
    from avsc_core.data.features import (
        build_features,
        count_odd_lengths,
        locate_features,
        open_data,
    )
    from avsc_core.files import cache_root

    with progress() as show:
        data = open_data(folder, show)
        built = build_features(data, config, show)
        if verify:
            # Damaged rows are deleted, so they have to be computed again.
            for path in locate_features(data, config):
                kind = path.name.split("-")[0]
                damaged = store.verify(path, partial(show, f"checking {kind}"))
                note = ", computed again" if damaged else ""
                out.print(f"{path.name}: {len(damaged)} damaged rows{note}", soft_wrap=True)
            built = build_features(data, config, show)
    display.print_features(built, count_odd_lengths(data, config))

    if prune is not None:
        deleted = store.prune(cache_root() / "features", prune)
        out.print(f"{len(deleted)} unused arrays deleted")


@app.command()
def pseudo(
    folder: Folder,
    audio: Annotated[
        str,
        Option("--audio-teacher", help="AST: a file, a folder or hf-hub:OWNER/NAME@COMMIT."),
    ],
    visual: Annotated[str, Option("--visual-teacher", help="ConvNeXt, likewise.")],
    out_file: Annotated[
        Path | None, Option("--out", help="Label file; default labels.npz in FOLDER.")
    ] = None,
    preset: Annotated[str, Option(help=f"{PRESETS}: pictures, thresholds and readings.")] = "paper",
    sets: Set = None,
    tracking_uri: Uri = None,
) -> None:
    """Label events and objects of every clip with two teachers; continues where it was stopped.

    Example: avsc-core pseudo /data/TAU --audio-teacher ast/ --visual-teacher \
convnext_base-6075fbad.pth
    """
    config = resolve(preset, parse_set(sets))
    from avsc_core import display
    from avsc_core.record.recorder import Recorder
    from avsc_core.teachers.pseudo import label_clips, list_warnings, record_labelling

    recorder = Recorder(tracking_uri)
    with progress() as show:
        labelling = label_clips(folder, config, audio, visual, out_file, show)
    run_id = record_labelling(recorder, config, labelling)
    display.print_positives(labelling.positives, list_warnings(labelling.positives))
    out.print(f"labels in {labelling.path}, recorded in run {run_id}", soft_wrap=True)


@app.command("config")
def show_config(preset: OnePreset = "paper", sets: Set = None) -> None:
    """Print the resolved configuration, one dotted key a line.

    Example: avsc-core config --preset demo --set alignment.k=10
    """
    config = resolve(preset, parse_set(sets))
    for key, value in list_settings(config).items():
        typer.echo(f"{key}={format_value(value)}")


@app.command()
def train(
    data: Data = None,
    preset: Preset = None,
    sets: Set = None,
    best: Annotated[bool, Option("--best", help="Retrain the winner of a study.")] = False,
    study: Annotated[str | None, Option(help="With --best: the study; default the latest.")] = None,
    check: Annotated[
        bool,
        Option("--check", help="With --best: train the trial again first; a miss reads no test."),
    ] = False,
    config_file: Annotated[
        Path | None,
        Option("--config", help="A configuration, as `avsc-search export` writes one."),
    ] = None,
    seeds: Annotated[
        int, Option(min=1, help="Train this many times, with seed, seed + 1, ...")
    ] = 1,
    tracking_uri: Uri = None,
) -> None:
    """Train one configuration, or retrain a study's winner and read the test split once.

    Example: avsc-core train --best --study lambda --check
    """
    _check_train_options(best, study, check, preset, config_file)
    overrides = parse_set(sets)
    if best:
        _train_winner(study, data, overrides, seeds, tracking_uri, check)
        return
    if config_file:
        config = resolve("paper", [*read_overrides(config_file), *overrides])
    else:
        config = resolve(preset or ("paper" if data else "demo"), overrides)
    from avsc_core.record.recorder import Recorder

    _train_seeds(Recorder(tracking_uri), config, data, seeds)


@app.command()
def evaluate(
    model: ModelName,
    data: Data = None,
    split: Annotated[
        Literal["train", "validation", "test"], Option(help="Which part to score.")
    ] = "test",
    protocol: Annotated[
        Literal["clip", "segment"],
        Option(help="One decision per 10-s clip (paper) or per second (challenge)."),
    ] = "clip",
    out_file: Annotated[
        Path | None, Option("--out", help="Write predictions as a TAB-separated file.")
    ] = None,
    figure: Annotated[Path | None, Option(help="Draw the confusion matrix (PNG).")] = None,
    tracking_uri: Uri = None,
) -> None:
    """Score a trained model on a split; with an unlabelled evaluation set, write its answer file.

    Example: avsc-core evaluate best:lambda --split test --protocol segment --out answers.tsv
    """
    from avsc_core import api, display
    from avsc_core.data.features import open_data
    from avsc_core.data.tau import is_unlabelled
    from avsc_core.evaluation.evaluate import evaluate_split, is_trained_on

    trained = api.load_model(model, tracking_uri)
    if data and is_unlabelled(data):
        _write_answers(trained, data, out_file)
        return

    # Protocol `clip` decides once for a clip, `segment` ten times.
    with progress() as show:
        dataset = open_data(data, show)
        display.note_provenance(trained, dataset, split)
        evaluation = evaluate_split(trained, dataset, split, show, protocol)
    title = f"{split} split of {dataset.title}, {len(evaluation.names)} {protocol}s"
    if is_trained_on(trained, dataset, split):
        title += ", on which the model was trained"
    display.print_evaluation(evaluation, title, protocol, dataset.scene_names)
    _write_evaluation(evaluation, title, dataset.scene_names, out_file, figure)


@app.command()
def predict(
    files: Annotated[
        list[Path],
        Argument(help="Clips: a wav or mp4 with the other beside it, or a video with sound."),
    ],
    model: Annotated[
        str, Option("--model", help="Run id, best:STUDY, models:/NAME@ALIAS, or a folder.")
    ],
    tracking_uri: Uri = None,
) -> None:
    """Classify clips: the scene with its probability, the likeliest events and objects.

    Example: avsc-core predict clip.mp4 --model best:lambda
    """
    from avsc_core import api, display
    from avsc_core.evaluation.evaluate import find_pair, predict_file

    # All missing files are found before the model is loaded.
    pairs = []
    faults: list[Fault] = []
    for file in files:
        with collect_faults(faults):
            pairs.append(find_pair(file))
    if faults:
        raise UserError(faults)

    trained = api.load_model(model, tracking_uri)
    for file, pair in zip(files, pairs, strict=True):
        display.print_prediction(file, predict_file(trained, *pair))


@app.command("map")
def draw_map(
    model: ModelName,
    out_folder: Annotated[
        Path | None, Option("--out", help="Folder; default maps/ and its name.")
    ] = None,
    names: Annotated[int, Option(min=1, help="How many nearest pairs to list and to label.")] = 20,
    seed: Annotated[
        int, Option(min=0, max=2**32 - 1, help="The same seed gives the same map.")
    ] = 0,
    tracking_uri: Uri = None,
) -> None:
    """Draw what the event and object classifiers learned in two dimensions, and list \
the nearest pairs.

    Example: avsc-core map best:lambda --names 30
    """
    from avsc_core import api, display
    from avsc_core.evaluation.class_map import build_map
    from avsc_core.evaluation.class_map_files import choose_folder, write_map

    # The model may take long to download, so the folder is checked first.
    folder = out_folder or choose_folder(model)
    if folder.exists() and not folder.is_dir():
        raise make_error(folder, "is not a folder", todo="give --out a folder")
    class_map = build_map(api.load_model(model, tracking_uri), model, names, seed)
    display.print_map(class_map, write_map(folder, class_map))


def _check_train_options(
    best: bool, study: str | None, check: bool, preset: str | None, config_file: Path | None
) -> None:
    """Refuse options of `train` that contradict each other. Raises UserError."""
    if best and preset:
        raise make_error(
            "--preset", "the winner has its own configuration", todo="leave out --preset or --best"
        )
    if study and not best:
        raise make_error("--study", "names whose winner to retrain", todo="add --best")
    if check and not best:
        raise make_error("--check", "repeats the trial of a winner", todo="add --best")
    if config_file and (best or preset):
        raise make_error(
            "--config",
            "is a whole configuration",
            todo="leave out --best and --preset; --set changes it",
        )


def _train_winner(
    study: str | None,
    data: Path | None,
    overrides: Sequence[Override],
    seeds: int,
    tracking_uri: str | None,
    check: bool,
) -> None:
    """Retrain the winner of a study, with `overrides` over its configuration."""
    from avsc_core.record.reading.record import open_record
    from avsc_core.record.recorder import Recorder
    from avsc_core.record.winner import find_winner

    record = open_record(tracking_uri)
    winner = find_winner(record, study)
    settings = list_settings(winner.trial.config)
    base = [Override(key, value, "the winner") for key, value in settings.items()]
    # The winner gives every setting, so that none of the preset's values is left.
    config = resolve("paper", [*base, *overrides])

    if check and trial_key(config) != trial_key(winner.trial.config):
        todo = "leave out --check or --set; device, workers and compute may be set"
        raise make_error("--set", "changes what --check repeats: the trial as it was", todo=todo)

    tags = record.get_study(winner.study).tags
    if tags.get("avsc.outcome") != "complete":
        what = "another trial may yet win, and the test split will have been read"
        err.print(f"note: study {winner.study} is not finished: {what}", soft_wrap=True)
    _train_seeds(Recorder(tracking_uri), config, data, seeds, winner, check)


def _train_seeds(
    recorder: "Recorder",
    config: Config,
    data: Path | None,
    seeds: int,
    winner: "Winner | None" = None,
    check: bool = False,
) -> None:
    """Train a configuration with one seed after another, and print the figures of each."""
    from avsc_core import display
    from avsc_core.data.features import build_features, open_data
    from avsc_core.evaluation.retrain import check_data, check_winner, train_recorded

    with progress() as show:
        dataset = open_data(data, show)
        if winner:
            check_data(winner, dataset)
            display.note_changes(winner, config)
        features = build_features(dataset, config, show)
    display.note_random_weights(config, dataset)
    if not winner:
        display.announce_split(config, dataset)

    if winner:
        display.note_earlier_readings(recorder.list_trials(winner.study, "training"), dataset)

    # The trial again, before anything reads the test split.
    verdict = ""
    if check and winner:
        with progress() as show:
            report = partial(_report_epoch, show, "training the trial again")
            found = check_winner(recorder, config, features, report, winner, show)
        verdict = found.verdict
        err.print(f"check: {verdict}", soft_wrap=True)

    results = {}
    for seed in range(config.seed, config.seed + seeds):
        seeded = config.model_copy(update={"seed": seed})
        with progress() as show:
            report = partial(_report_epoch, show, "training")
            results[seed] = train_recorded(
                recorder, seeded, features, report, winner, show, verdict
            )
    display.print_trainings(results, config, dataset, winner)


def _report_epoch(show: Progress, what: str, epoch: "Epoch", epochs: int) -> None:
    """Show how many epochs of a training are done."""
    show(what, epoch.number, epochs)


def _write_answers(trained: "Trained", data: Path, out_file: Path | None) -> None:
    """Write the answer file of an unlabelled evaluation set. Raises UserError without a file."""
    from avsc_core.evaluation.evaluate import answer_unlabelled
    from avsc_core.files import write_text
    from avsc_core.metrics import format_predictions

    if out_file is None:
        raise make_error(
            data, "is unlabelled, so there is nothing to score", todo="give --out for answers"
        )
    with progress() as show:
        names, probability = answer_unlabelled(trained, data, show)
    write_text(out_file, format_predictions(names, probability, trained.scene_names))
    out.print(f"answers in {out_file}", soft_wrap=True)


def _write_evaluation(
    evaluation: "Evaluation",
    title: str,
    scene_names: Sequence[str],
    out_file: Path | None,
    figure: Path | None,
) -> None:
    """Write the predictions and draw the confusion matrix, as far as a file is given for them."""
    from avsc_core.evaluation.figures import draw_confusions
    from avsc_core.files import write_text
    from avsc_core.metrics import format_predictions

    probability = evaluation.probability
    if out_file:
        write_text(out_file, format_predictions(evaluation.names, probability, scene_names))
        out.print(f"predictions in {out_file}", soft_wrap=True)
    if figure:
        draw_confusions(figure, probability, evaluation.scenes, scene_names, title)
        out.print(f"confusions in {figure}", soft_wrap=True)
