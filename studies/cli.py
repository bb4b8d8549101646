"""`avsc-search`: studies on the command line.

`check` and `plan` read the study file and answer at once; `run` checks everything first, then carries the plan out;
`status`, `best`, `report`, `plot` and `export` read the record; `ui` opens MLflow on it.
"""

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avsc_core.config import Config
from avsc_core.errors import (
    EXIT_INTERRUPTED,
    EXIT_SOME_TRIALS_FAILED,
    EXIT_TERMINATED,
    Fault,
    UserError,
)
from avsc_core.resolve import flatten, format_value, list_presets
from avsc_core.terminal import err, out, progress, run_app
from studies.study.plan import describe_plan, make_plan
from studies.study.reading import OF_THE_STUDY, read_study
from studies.study.schema import Study

if TYPE_CHECKING:
    from avsc_core.record.recorder import Recorder

app = typer.Typer(
    help="Run ablations and searches as studies, and compare their trials.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _hours(value: float | None) -> float | None:
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise UserError(Fault("--max-hours", f"{value:g} is no number of hours", "0 or more"))
    return value


File = Annotated[Path, typer.Argument(help="A study file, for instance studies/lambda.yaml.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the data set; without it the embedded scenes."),
]
Preset = Annotated[
    str | None, typer.Option("--preset", help=f"{', '.join(list_presets())}; over the file's own.")
]
Trials = Annotated[
    int | None, typer.Option("--trials", help="Trials of the search, over the file's own.")
]
SET_HELP = f"key=value over the base, or of the study ({', '.join(OF_THE_STUDY)}); may be repeated."
Set = Annotated[list[str] | None, typer.Option("--set", help=SET_HELP)]
Name = Annotated[str | None, typer.Option("--name", help="Name in the record; default the file's.")]
Cpus = Annotated[float | None, typer.Option("--cpus", help="CPUs per trial.")]
Gpus = Annotated[
    float | None,
    typer.Option("--gpus", help="GPUs per trial: a share such as 0.25, or whole ones."),
]
MaxHours = Annotated[
    float | None,
    typer.Option(
        "--max-hours", callback=_hours, help="Search fewer trials to stay below, or refuse."
    ),
]
Uri = Annotated[
    str | None, typer.Option("--tracking-uri", help="MLflow record; default sqlite in mlruns/.")
]
StudyName = Annotated[str, typer.Argument(help="A study in the record.")]


def main() -> None:
    """Entry point of the command `avsc-search`."""
    run_app(app)


@app.command()
def check(
    file: File,
    data: Data = None,
    preset: Preset = None,
    trials: Trials = None,
    sets: Set = None,
    name: Name = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    tracking_uri: Uri = None,
) -> None:
    """Check a study file: every fault with its line, without starting anything.

    Example: avsc-search check studies/lambda.yaml
    """
    study = _study(file, data, preset, trials, sets, name, cpus, gpus, tracking_uri)
    out.print(
        f"{file}: fine, {len(make_plan(study).trials)} trials of arms" + _search_words(study),
        soft_wrap=True,
    )


@app.command()
def plan(
    file: File,
    data: Data = None,
    preset: Preset = None,
    trials: Trials = None,
    sets: Set = None,
    name: Name = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    max_hours: MaxHours = None,
    tracking_uri: Uri = None,
) -> None:
    """Show what a study would run and what it would cost, measured by a few training steps.

    Example: avsc-search plan studies/lambda.yaml --trials 50
    """
    study = _study(file, data, preset, trials, sets, name, cpus, gpus, tracking_uri)
    from avsc_core.data.features import open_data
    from avsc_core.record.address import find_missing_file
    from avsc_core.record.recorder import open_record
    from avsc_core.terminal import make_table
    from studies.runner.cost import count_local_places, estimate_cost, trim_search
    from studies.runner.prepare import (
        check_warm_start,
        compare_with_record,
        describe_missing_arms,
        make_served_plan,
    )
    from studies.runner.strategy import Strategy

    header, *rows = describe_plan(make_plan(study))
    out.print(make_table(f"{study.name}: {study.question}", header, rows))
    out.print(
        f"preset {study.preset}, {study.base.training.epochs} epochs a trial"
        + _search_words(study),
        soft_wrap=True,
    )
    recorder = None if find_missing_file(tracking_uri) else open_record(tracking_uri)
    if recorder:
        check_warm_start(recorder, study)
    with progress() as show:
        dataset = open_data(data, show)
        served = make_served_plan(study, dataset)
        strategy = (
            compare_with_record(served, dataset, recorder) if recorder else Strategy(served, [])
        )
    for note in describe_missing_arms(served):
        err.print(note, soft_wrap=True)
    if strategy.reused:
        out.print(
            f"{strategy.reused} of {strategy.total} trials are in the record already",
            soft_wrap=True,
        )
    if strategy.done:
        return
    with progress() as show:
        card = estimate_cost(strategy, dataset, count_local_places(study.resources), show)
    title = "what is left costs" if strategy.reused else "what it costs"
    out.print(make_table(f"{title} on {dataset.title}", ["", "about"], card.make_rows()))
    if max_hours is not None:
        left = trim_search(study, card, max_hours).search
        out.print(
            f"within {max_hours:g} h" + (f": {left.trials} trials of the search" if left else "")
        )


@app.command()
def run(
    file: File,
    data: Data = None,
    preset: Preset = None,
    trials: Trials = None,
    sets: Set = None,
    name: Name = None,
    cpus: Cpus = None,
    gpus: Gpus = None,
    max_hours: MaxHours = None,
    address: Annotated[
        str | None, typer.Option("--address", help="A Ray cluster; default this machine.")
    ] = None,
    tracking_uri: Uri = None,
) -> None:
    """Run a study, or finish one: what the record has is not run again.

    Examples: avsc-search run studies/lambda.yaml
              avsc-search run studies/lambda.yaml --data /data/TAU --preset paper --gpus 0.5
              avsc-search run studies/lambda.yaml --data /data/TAU --gpus 1 --address 10.0.0.1:6379
    """
    study = _study(file, data, preset, trials, sets, name, cpus, gpus, tracking_uri)
    from studies.report.status import print_closing
    from studies.runner.run import run_study  # torch, ray and mlflow load here

    with progress() as show:
        ending = run_study(study, data, tracking_uri, address, show, max_hours)
    print_closing(ending.recorder, study, finished=not ending.signal)
    if ending.signal:
        print(f"stopped: the same command finishes study {study.name}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED if ending.signal == 2 else EXIT_TERMINATED)
    if ending.failed:
        raise typer.Exit(EXIT_SOME_TRIALS_FAILED)


@app.command()
def status(name: StudyName, tracking_uri: Uri = None) -> None:
    """List the trials of a study with their outcome and figures.

    Example: avsc-search status lambda
    """
    from studies.report.status import print_status

    print_status(_record_of(name, tracking_uri), name)


@app.command()
def best(name: StudyName, tracking_uri: Uri = None) -> None:
    """Print the best configuration of a study as key=value lines.

    Example: avsc-search best lambda
    """
    from avsc_core.record.winner import find_winner

    winner = find_winner(_record_of(name, tracking_uri), name, "NAME")
    value = winner.trial.metrics[f"best_{winner.metric}"]
    err.print(
        f"{winner.trial.arm} {winner.trial.key[:6]}: {winner.metric} {value:.4f} ({winner.trial.tags['avsc.data']})"
    )
    for key, setting in flatten(winner.trial.config.model_dump(mode="json")):
        typer.echo(f"{key}={format_value(setting)}")


@app.command()
def report(
    name: StudyName,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder; default reports/NAME.")
    ] = None,
    tracking_uri: Uri = None,
) -> None:
    """Report on a study: tables with intervals and tests, figures, costs; in the terminal and as files.

    Writes report.html (one page, nothing else needed), report.md, report.tex, tables/*.csv and figures/*.png.

    Example: avsc-search report lambda
    """
    from studies.report.build import build_report
    from studies.report.render import to_terminal, write_report

    made = build_report(_record_of(name, tracking_uri), name)
    to_terminal(made, out)
    paths = write_report(made, out_folder or Path("reports") / name)
    out.print("written: " + ", ".join(map(str, paths)), soft_wrap=True)


@app.command()
def plot(
    name: StudyName,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder; default reports/NAME/figures.")
    ] = None,
    tracking_uri: Uri = None,
) -> None:
    """Draw the figures of a study's report as PNG files.

    Example: avsc-search plot lambda --out figures
    """
    from studies.report.build import build_report
    from studies.report.render import write_pictures

    made = build_report(_record_of(name, tracking_uri), name)
    for path in write_pictures(made, out_folder or Path("reports") / name / "figures"):
        out.print(str(path), soft_wrap=True)


@app.command()
def export(
    name: StudyName,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder; default exports/NAME.")
    ] = None,
    tracking_uri: Uri = None,
) -> None:
    """Write a study's trials as CSV and Parquet, and its best configuration for `avsc-core train --config`.

    Example: avsc-search export lambda --out lambda
    """
    from studies.report.export import export_study

    folder = out_folder or Path("exports") / name
    for path in export_study(_record_of(name, tracking_uri), name, folder):
        out.print(str(path), soft_wrap=True)


@app.command()
def ui(
    tracking_uri: Uri = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Open the MLflow UI on the record, reachable from this machine only.

    Example: avsc-search ui --port 5001
    """
    from avsc_core.record.recorder import open_record

    uri = open_record(tracking_uri).uri
    typer.echo(f"http://127.0.0.1:{port}  (Ctrl-C ends it)")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    sys.stdout.flush()
    os.execv(sys.executable, command)


def _record_of(name: str, tracking_uri: str | None) -> "Recorder":
    """The record, to read study `name` from; a fault calls it as the command's help does."""
    from avsc_core.record.recorder import open_record

    recorder = open_record(tracking_uri)
    recorder.get_study(name, "NAME")
    return recorder


def _study(
    file: Path,
    data: Path | None,
    preset: str | None,
    trials: int | None,
    sets: list[str] | None,
    name: str | None,
    cpus: float | None,
    gpus: float | None,
    tracking_uri: str | None,
) -> Study:
    """The checked study; a missing data folder is reported together with the file's own faults."""

    def winner_of(own: str, source: str, where: str) -> tuple[str, Config]:
        from avsc_core.record.recorder import (
            open_record,  # only a study with `best-of` reads the record
        )
        from avsc_core.record.winner import find_pinned_winner

        return find_pinned_winner(open_record(tracking_uri), own, source, where)

    faults = []
    if data is not None and not data.is_dir():
        faults.append(
            Fault(
                "--data",
                f"{data} is no folder",
                todo="give the folder that holds audio/ and video/",
            )
        )
    try:
        study = read_study(
            file,
            preset=preset,
            data_given=data is not None,
            sets=sets or (),
            trials=trials,
            name=name,
            cpus=cpus,
            gpus=gpus,
            winner_of=winner_of,
        )
    except UserError as error:
        raise UserError([*error.faults, *faults]) from None
    if faults:
        raise UserError(faults)
    return study


def _search_words(study: Study) -> str:
    search, words = study.search, ""
    if search and search.trials:
        words += f", then {search.trials} by {search.sampler} with scheduler {search.scheduler}"
    if study.retune:
        words += f", then {study.retune} for each arm"
    return words
