"""`avsc-core`: data, training, evaluation and prediction on the command line.

Each command checks all it was given before it starts, then calls one function of the package. Imports that cost time
(torch, mlflow) stand inside the commands, so that `--help` and a refused flag answer at once.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.resolve import (
    Override,
    find_random_branches,
    flatten,
    format_value,
    list_presets,
    parse_set,
    read_overrides,
    resolve,
)
from avsc_core.terminal import err, out, progress, run_app

if TYPE_CHECKING:
    from avsc_core.trainer.loop import Epoch

app = typer.Typer(
    help="Audio-visual scene classification: data, training, evaluation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PRESETS = ", ".join(list_presets())
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the data set; without it the embedded scenes."),
]
Preset = Annotated[
    str | None, typer.Option("--preset", help=f"{PRESETS}; demo without --data, paper with it.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="key=value over the preset; may be repeated.")
]
Uri = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow record; default sqlite in mlruns/.")
]
ModelName = Annotated[
    str, typer.Argument(help="MLflow run id, best:STUDY, models:/NAME@ALIAS, or a folder.")
]


def main() -> None:
    """Entry point of the command `avsc-core`."""
    run_app(app)


@app.command("demo-data")
def demo_data(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    clips_per_scene: Annotated[
        int, typer.Option(min=3, help="Clips for each of the ten scenes.")
    ] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
) -> None:
    """Write the embedded scenes in the data set's own layout.

    Example: avsc-core demo-data scenes --clips-per-scene 8
    """
    from avsc_core.demo.scenes import write_demo

    if folder.exists() and any(folder.iterdir() if folder.is_dir() else [folder]):
        raise UserError(Fault(str(folder), "exists and is not empty", "a new or empty folder"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            Fault(str(folder), f"no folder can be made there ({error.strerror})")
        ) from None
    with progress() as show:
        write_demo(
            folder,
            clips_per_scene,
            seed,
            progress=lambda done, total: show("writing clips", done, total),
        )
    out.print(f"{10 * clips_per_scene} clips in {folder}")


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    deep: Annotated[
        bool, typer.Option("--deep", help="Decode every clip, not only its header.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad clips out from now on (skip.tsv).")
    ] = False,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
    sets: Set = None,
) -> None:
    """Check a data set's tables, files and labels: every fault with file and row, and what it is made of.

    Example: avsc-core check /data/TAU-urban-audio-visual-scenes-2021-development --deep
    """
    media = resolve("paper", parse_set(sets or ())).media
    from avsc_core.data.inspect import inspect, list_faults, summarise
    from avsc_core.data.inspect import skip_bad as leave_out
    from avsc_core.data.layout import read_skipped
    from avsc_core.labels import LABEL_FILE, read_labels

    with progress() as show:
        seen = inspect(folder, media, deep, workers, show)
    if seen.clips:
        table = Table("what", "found", title=f"{folder}")
        for row in summarise(seen):
            table.add_row(*row)
        out.print(table)
    faults = list_faults(seen)
    if seen.clips and not (folder / LABEL_FILE).is_file():
        err.print(
            f"note: no {LABEL_FILE} yet; `avsc-core pseudo {folder}` makes one", soft_wrap=True
        )
    elif seen.clips:
        with collect_faults(faults):
            labels = read_labels(folder / LABEL_FILE)
            out.print(
                f"{len(labels.event_names)} events, {len(labels.object_names)} objects labelled"
            )
    if faults and seen.clips:
        table = Table("where", "what", "allowed", "what to do", title=f"{len(faults)} faults")
        for fault in faults:
            table.add_row(fault.where, fault.what, fault.allowed, fault.todo)
        out.print(table)
    if skip_bad and seen.bad:
        out.print(
            f"{len(seen.bad)} clips are left out from now on: {leave_out(folder, seen)}",
            soft_wrap=True,
        )
        faults = [fault for fault in faults if not any(fault in own for own in seen.bad.values())]
    if read_skipped(folder) and not seen.bad:
        out.print(f"{len(read_skipped(folder))} clips are left out by skip.tsv", soft_wrap=True)
    if faults:
        raise UserError(faults)
    out.print("nothing wrong" if not seen.bad else "nothing else wrong")


@app.command()
def features(
    folder: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    preset: Annotated[str, typer.Option(help=f"{PRESETS}.")] = "paper",
    sets: Set = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check every row, compute damaged ones again.")
    ] = False,
    prune: Annotated[
        float | None, typer.Option(min=0, help="Delete what nobody used for so many days.")
    ] = None,
) -> None:
    """Compute the features of every clip into the cache, where all trials share them.

    Example: avsc-core features /data/TAU --preset paper --verify
    """
    config = resolve(preset, parse_set(sets or ()))
    from avsc_core.cache.store import prune as delete_unused
    from avsc_core.cache.store import verify as damaged
    from avsc_core.data.features import (
        build_features,
        count_odd_lengths,
        locate_features,
        open_data,
    )
    from avsc_core.files import cache_root

    with progress() as show:
        data = open_data(folder, show)
        made = build_features(data, config, show)
        if verify:
            for path in locate_features(data, config):
                bad = damaged(path, partial(show, f"checking {path.name.split('-')[0]}"))
                out.print(
                    f"{path.name}: {len(bad)} damaged rows" + (", computed again" if bad else ""),
                    soft_wrap=True,
                )
            made = build_features(data, config, show)
    shapes = f"log-mel {made.log_mel.shape}, frames {made.frames.shape}"
    out.print(
        f"features of {len(made.data.clips)} clips in {cache_root()}: {shapes}", soft_wrap=True
    )
    counts = count_odd_lengths(data, config)
    if any(counts.values()):
        out.print(
            ", ".join(f"{count} recordings {note}" for note, count in counts.items()) + " to 10 s"
        )
    if prune is not None:
        gone = delete_unused(cache_root() / "features", prune)
        out.print(f"{len(gone)} unused arrays deleted")


@app.command()
def pseudo(
    folder: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    audio: Annotated[
        str,
        typer.Option("--audio-teacher", help="AST: a file, a folder or hf-hub:OWNER/NAME@COMMIT."),
    ],
    visual: Annotated[str, typer.Option("--visual-teacher", help="ConvNeXt, likewise.")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Label file; default labels.npz in FOLDER.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help=f"{PRESETS}: pictures, thresholds and readings.")
    ] = "paper",
    sets: Set = None,
    tracking_uri: Uri = None,
) -> None:
    """Label events and objects of every clip with two teachers; continues where it was stopped.

    Example: avsc-core pseudo /data/TAU --audio-teacher ast/ --visual-teacher convnext_base-6075fbad.pth
    """
    config = resolve(preset, parse_set(sets or ()))
    from avsc_core.record.recorder import Recorder
    from avsc_core.teachers.pseudo import label_clips, list_warnings, record_labelling

    with progress() as show:
        made = label_clips(folder, config, audio, visual, out_file, show)
    run_id = record_labelling(Recorder(tracking_uri), config, made)
    table = Table(
        "labels", "split", "clips", "median", "mean", "without any", title="positives per clip"
    )
    for row in made.positives:
        numbers = f"{row.median:.0f}", f"{row.mean:.1f}", f"{row.without:.0%}"
        table.add_row(row.kind, row.split, str(row.clips), *numbers)
    out.print(table)
    for warning in list_warnings(made.positives):
        err.print(f"note: {warning}", soft_wrap=True)
    out.print(f"labels in {made.path}, recorded in run {run_id}", soft_wrap=True)


@app.command("config")
def show_config(
    preset: Annotated[str, typer.Option(help=f"{PRESETS}.")] = "paper", sets: Set = None
) -> None:
    """Print the resolved configuration, one dotted key a line.

    Example: avsc-core config --preset demo --set alignment.k=10
    """
    for key, value in flatten(resolve(preset, parse_set(sets or ())).model_dump(mode="json")):
        typer.echo(f"{key}={format_value(value)}")


@app.command()
def train(
    data: Data = None,
    preset: Preset = None,
    sets: Set = None,
    best: Annotated[bool, typer.Option("--best", help="Retrain the winner of a study.")] = False,
    study: Annotated[
        str | None, typer.Option(help="With --best: the study; default the latest.")
    ] = None,
    config_file: Annotated[
        Path | None,
        typer.Option("--config", help="A configuration, as `avsc-search export` writes one."),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Train this many times, with seed, seed + 1, ...")
    ] = 1,
    tracking_uri: Uri = None,
) -> None:
    """Train one configuration, or retrain a study's winner and read the test split once.

    Example: avsc-core train --best --study lambda
    """
    if best and preset:
        raise UserError(
            Fault(
                "--preset",
                "the winner has its own configuration",
                todo="leave out --preset or --best",
            )
        )
    if study and not best:
        raise UserError(Fault("--study", "names whose winner to retrain", todo="add --best"))
    if config_file and (best or preset):
        what = "is a whole configuration"
        raise UserError(
            Fault("--config", what, todo="leave out --best and --preset; --set goes over it")
        )
    overrides = parse_set(sets or ())
    if config_file:
        config = resolve("paper", [*read_overrides(config_file), *overrides])
    elif not best:
        config = resolve(preset or ("paper" if data else "demo"), overrides)
    from avsc_core.data.features import build_features, open_data
    from avsc_core.evaluation.retrain import check_data
    from avsc_core.evaluation.retrain import train_recorded as run
    from avsc_core.record.recorder import Recorder, open_record
    from avsc_core.record.winner import find_winner

    recorder = open_record(tracking_uri) if best else Recorder(tracking_uri)
    winner = find_winner(recorder, study) if best else None
    if winner:
        config = over(winner.trial.config, sets or ())
        if recorder.get_study(winner.study).data.tags.get("avsc.outcome") != "complete":
            what = "another trial may yet win, and the test split will have been read"
            err.print(f"note: study {winner.study} is not finished: {what}", soft_wrap=True)
    with progress() as show:
        dataset = open_data(data, show)
        if winner:
            check_data(winner, dataset)
        made = build_features(dataset, config, show)
    bare = find_random_branches(config)
    if bare and not dataset.embedded:
        err.print(
            f"note: random weights for {' and '.join(bare)}; the paper's start from published ones",
            soft_wrap=True,
        )
    results = []
    for seed in range(config.seed, config.seed + seeds):
        with progress() as show:

            def report(epoch: "Epoch", epochs: int) -> None:
                show("training", epoch.number, epochs)

            results.append(
                run(recorder, config.model_copy(update={"seed": seed}), made, report, winner, show)
            )
    split = "test" if winner else "val"
    title = f"{'winner of ' + winner.study if winner else 'training'} on {dataset.title}"
    table = Table("seed", "run", "Acc", "Logloss", title=title)
    for seed, result in enumerate(results, start=config.seed):
        scores = (f"{result.metrics[f'{split}_{name}']:.4f}" for name in ("acc", "logloss"))
        table.add_row(str(seed), result.run_id, *scores)
    out.print(table)
    out.print(f"{'test' if winner else 'validation'} figures of {dataset.title}", style="bold")
    reference = results[-1].registered or results[-1].run_id
    out.print(
        f"next: avsc-core evaluate {reference}\n      avsc-core predict CLIP.mp4 --model {reference}",
        soft_wrap=True,
    )


@app.command()
def evaluate(
    model: ModelName,
    data: Data = None,
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Which part to score.")
    ] = "test",
    protocol: Annotated[
        Literal["clip", "segment"],
        typer.Option(help="One decision per 10-s clip (paper) or per second (challenge)."),
    ] = "clip",
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write predictions as a TAB-separated file.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw the confusion matrix (PNG).")] = None,
    tracking_uri: Uri = None,
) -> None:
    """Score a trained model on a split; with an unlabelled evaluation set, write its answer file.

    Example: avsc-core evaluate best:lambda --split test --protocol segment --out answers.tsv
    """
    from avsc_core.data.features import open_data
    from avsc_core.data.tau import is_unlabelled
    from avsc_core.evaluation.breakdown import score_by_city, score_by_scene
    from avsc_core.evaluation.evaluate import answer_unlabelled, load_trained
    from avsc_core.evaluation.evaluate import evaluate_split as score
    from avsc_core.evaluation.figures import draw_confusions
    from avsc_core.evaluation.intervals import estimate_scores
    from avsc_core.files import write_text
    from avsc_core.metrics import format_predictions

    trained = load_trained(_model_folder(model, tracking_uri))
    if data and is_unlabelled(data):
        if out_file is None:
            raise UserError(
                Fault(
                    str(data),
                    "is unlabelled, so there is nothing to score",
                    todo="give --out for answers",
                )
            )
        with progress() as show:
            write_text(
                out_file,
                format_predictions(*answer_unlabelled(trained, data, show), trained.scene_names),
            )
        out.print(f"answers in {out_file}", soft_wrap=True)
        return
    with progress() as show:
        dataset = open_data(data, show)
        result = score(trained, dataset, split, show, protocol)
    title = f"{split} split of {dataset.title}, {len(result.names)} {protocol}s"
    table = Table("measure", "value", "95 % by location", title=title)
    figures = estimate_scores(result.probability, result.scenes, result.locations)
    for name, (_, low, high, *_) in figures.items():
        table.add_row(
            name, f"{result.metrics[name]:.4f}", "-" if low != low else f"{low:.4f} to {high:.4f}"
        )
    out.print(table)
    for what, rows in (
        ("scene", score_by_scene(result.probability, result.scenes, dataset.scene_names)),
        ("city", score_by_city(result.probability, result.scenes, result.locations)),
    ):
        table = Table(what, f"{protocol}s", "Acc", "Logloss")
        for key, (count, acc, logloss) in rows.items():
            table.add_row(key, str(count), f"{acc:.4f}", f"{logloss:.4f}")
        out.print(table)
    if out_file:
        write_text(
            out_file, format_predictions(result.names, result.probability, dataset.scene_names)
        )
        out.print(f"predictions in {out_file}", soft_wrap=True)
    if figure:
        draw_confusions(figure, result.probability, result.scenes, dataset.scene_names, title)
        out.print(f"confusions in {figure}", soft_wrap=True)


@app.command()
def predict(
    files: Annotated[
        list[Path], typer.Argument(help="Clips: a wav or mp4 with the other beside it.")
    ],
    model: Annotated[
        str, typer.Option("--model", help="Run id, best:STUDY, models:/NAME@ALIAS, or a folder.")
    ],
    tracking_uri: Uri = None,
) -> None:
    """Classify clips: the scene with its probability, the likeliest events and objects.

    Example: avsc-core predict clip.mp4 --model best:lambda
    """
    from avsc_core.evaluation.evaluate import find_pair, load_trained, predict_file

    pairs, faults = [], []
    for file in files:
        try:
            pairs.append(find_pair(file))
        except UserError as error:
            faults += error.faults
    if faults:
        raise UserError(faults)
    trained = load_trained(_model_folder(model, tracking_uri))
    for file, pair in zip(files, pairs, strict=True):
        result = predict_file(trained, *pair)
        scene = max(result["scenes"], key=result["scenes"].get)
        out.print(f"{file}: {scene} ({result['scenes'][scene]:.2f})", soft_wrap=True)
        for kind in ("events", "objects"):
            err.print(
                f"  {kind}: "
                + ", ".join(f"{name} {value:.2f}" for name, value in result[kind].items())
            )


@app.command("map")
def draw_map(
    model: ModelName,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder; default maps/ and its name.")
    ] = None,
    names: Annotated[
        int, typer.Option(min=1, help="How many nearest pairs to list and to label.")
    ] = 20,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same map.")
    ] = 0,
    tracking_uri: Uri = None,
) -> None:
    """Draw what the event and object classifiers learned in two dimensions, and list the nearest pairs.

    Example: avsc-core map best:lambda --names 30
    """
    from avsc_core.evaluation.class_map import build_map
    from avsc_core.evaluation.class_map_files import choose_folder, write_map
    from avsc_core.evaluation.evaluate import load_trained

    folder = out_folder or choose_folder(model)
    if folder.exists() and not folder.is_dir():
        raise UserError(Fault(str(folder), "is no folder", todo="give --out a folder"))
    made = build_map(load_trained(_model_folder(model, tracking_uri)), model, names, seed)
    files = write_map(folder, made)
    table = Table("event", "object", "cosine", title=made.title)
    for pair in made.pairs:
        table.add_row(pair.event, pair.object, f"{pair.cosine:.3f}")
    out.print(table)
    out.print(
        f"to explore in a browser: {files[0]}\npicture: {files[1]}\npairs: {files[2]}",
        soft_wrap=True,
    )


def _model_folder(model: str, tracking_uri: str | None) -> Path:
    """The local folder of a model; the record is looked at only when it is no folder itself."""
    from avsc_core.record.address import find_missing_file
    from avsc_core.record.recorder import Recorder

    if Path(model).is_dir():
        return Path(model)
    if file := find_missing_file(tracking_uri):
        allowed = "a run id, best:STUDY, models:/NAME@ALIAS or a folder"
        raise UserError(Fault(model, f"no model there ({file}: no record in this folder)", allowed))
    return Recorder(tracking_uri).fetch_model(model)


def over(config: Config, sets: list[str] | tuple[str, ...]) -> Config:
    """`config` with `--set` items put over it."""
    base = [Override(key, value, "the winner") for key, value in flatten(config.model_dump())]
    return resolve("paper", [*base, *parse_set(sets)])
