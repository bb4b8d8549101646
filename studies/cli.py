"""`avsc-search`: studies on the command line.

`new` writes a study file; `check` and `plan` read one and answer at once; `run` checks everything
first and then carries the plan out. `list`, `status`, `best`, `report`, `plot` and `export` read
the record; `ui` opens MLflow on it. Modules that take long to import (torch, ray, mlflow) are
imported inside the commands, so that `--help` and a fault in a study file answer at once.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic_core import to_json

from avsc_core.config import Config
from avsc_core.errors import (
    EXIT_INTERRUPTED,
    EXIT_SOME_TRIALS_FAILED,
    EXIT_TERMINATED,
    Fault,
    UserError,
    collect_faults,
)
from avsc_core.resolve import format_value, list_presets, list_settings
from avsc_core.terminal import Data, Uri, err, out, progress, run_app
from studies.study.plan import describe_searches, make_plan
from studies.study.reading import OF_THE_STUDY, read_study
from studies.study.schema import Study
from studies.study.tables import find_study_file, list_shipped

if TYPE_CHECKING:
    from avsc_core.record.reading.record import Record

app = typer.Typer(
    help="Run ablations and searches as studies, and compare their trials.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _check_hours(value: float | None) -> float | None:
    """Accept a number of hours, or none. Raises UserError."""
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise UserError(Fault("--max-hours", f"{value:g} is not a number of hours", "0 or more"))
    return value


SET_HELP = f"key=value over the base, or of the study ({', '.join(OF_THE_STUDY)}); may be repeated."
MaxHours = Annotated[
    float | None,
    typer.Option(callback=_check_hours, help="Search fewer trials to stay below, or refuse."),
]
Again = Annotated[
    bool, typer.Option("--again", help="Train also what other studies of the record have trained.")
]
Address = Annotated[str | None, typer.Option(help="A Ray cluster; default this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")]
StudyName = Annotated[str, typer.Argument(help="A study in the record.")]


@dataclass(frozen=True)
class StudyOptions:
    """What `check`, `plan` and `run` accept: a study file, and what replaces parts of it."""

    file: Annotated[
        Path, typer.Argument(help=f"A study file, or one that ships: {', '.join(list_shipped())}.")
    ]
    data: Data = None
    preset: Annotated[
        str | None, typer.Option(help=f"{', '.join(list_presets())}; over the file's own.")
    ] = None
    trials: Annotated[
        int | None, typer.Option(help="Trials of the search, over the file's own.")
    ] = None
    sets: Annotated[list[str] | None, typer.Option("--set", help=SET_HELP)] = None
    name: Annotated[str | None, typer.Option(help="Name in the record; default the file's.")] = None
    cpus: Annotated[float | None, typer.Option(help="CPUs per trial.")] = None
    gpus: Annotated[
        float | None, typer.Option(help="GPUs per trial: 1, or a share such as 0.25.")
    ] = None
    tracking_uri: Uri = None


def takes_study_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(options, ...)` the options of StudyOptions on the command line.

    typer reads a command's options from its signature, so the returned function has the fields of
    StudyOptions there in place of `options`. The command's own options stand before the last one,
    `--tracking-uri`, which is the last of every command.
    """
    shared = signature(StudyOptions).parameters
    *first, tracking_uri = shared.values()
    _, *others = signature(command).parameters.values()

    @wraps(command)
    def call(**values: Any) -> None:
        options = StudyOptions(**{name: values.pop(name) for name in shared})
        command(options, **values)

    call.__signature__ = Signature([*first, *others, tracking_uri])  # type: ignore[attr-defined]
    return call


def main() -> None:
    """Entry point of the command `avsc-search`."""
    run_app(app)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Of the study, and of its file NAME.yaml.")],
    source: Annotated[
        str, typer.Option("--from", help=f"A study that ships: {', '.join(list_shipped())}.")
    ] = "lambda",
) -> None:
    """Write a study file to begin with, in the current folder: one that ships, with its comments.

    Example: avsc-search new mine --from modules
    """
    from studies.study.template import write_study_file

    path = write_study_file(name, source)
    out.print(f"written: {path}; `avsc-search check {path}` checks it", soft_wrap=True)


@app.command()
@takes_study_options
def check(options: StudyOptions) -> None:
    """Check a study file: every fault with its line, without starting anything.

    Example: avsc-search check studies/lambda.yaml
    """
    study = _read_study(options)
    asked = make_plan(study)
    count = asked.sharing or f"{len(asked.trials)} trials of arms"
    searches = describe_searches(study)
    out.print(f"{options.file}: fine, {count}{searches}", soft_wrap=True)


@app.command()
@takes_study_options
def plan(options: StudyOptions, max_hours: MaxHours = None, again: Again = False) -> None:
    """Show what a study would run and what it would cost, measured by a few training steps.

    Examples: avsc-search plan studies/lambda.yaml --trials 50
              avsc-search plan paper --data /data/TAU --gpus 1
    """
    study = _read_study(options)
    from studies.runner.preview import preview_study  # samplers and media load here

    preview_study(study, options.data, options.tracking_uri, max_hours, again)


@app.command()
@takes_study_options
def run(
    options: StudyOptions,
    max_hours: MaxHours = None,
    again: Again = False,
    address: Address = None,
) -> None:
    """Run a study, or finish one: what the record has is not run again.

    A training that another study of the record has finished is taken over, and said so.

    Examples: avsc-search run studies/lambda.yaml
              avsc-search run paper
              avsc-search run studies/lambda.yaml --data /data/TAU --preset paper --gpus 0.5
              avsc-search run studies/lambda.yaml --data /data/TAU --gpus 1 --address 10.0.0.1:6379
    """
    study = _read_study(options)
    from studies.runner.finished import find_finished

    # A finished study needs none of what takes seconds to start. Who names a cluster wants it
    # joined.
    with progress() as show:
        data, uri = options.data, options.tracking_uri
        finished = None if address else find_finished(study, data, uri, show, again)
    if finished:
        from studies.report.status import print_closing

        print_closing(finished, study, finished=True)
        return
    from studies.cluster.session import open_ray

    with open_ray(address, study) as session, progress() as show:
        # While Ray's processes start, the driver imports what takes longest and is not Ray's.
        import avsc_core.record.recorder  # noqa: F401
        import studies.report.sections.comparisons  # noqa: F401

        session.wait()
        from studies.looks import run_with_looks

        ending = run_with_looks(
            study, options.data, options.tracking_uri, session, show, max_hours, again
        )
    from studies.report.status import print_closing

    print_closing(ending.recorder, study, finished=not ending.signal)
    if ending.signal:
        print(f"stopped: the same command finishes study {study.name}", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED if ending.signal == 2 else EXIT_TERMINATED)
    if ending.failed:
        raise typer.Exit(EXIT_SOME_TRIALS_FAILED)


@app.command("list")
def list_studies(json: AsJson = False, tracking_uri: Uri = None) -> None:
    """List the studies of the record: what they ask, how far they are, and their best figure.

    Examples: avsc-search list
              avsc-search list --json
    """
    from avsc_core.record.reading.record import open_record
    from studies.report import listing

    record = open_record(tracking_uri)
    if json:
        _print_json(listing.list_studies(record))
    else:
        listing.print_studies(record)


@app.command()
def status(
    name: Annotated[
        str | None, typer.Argument(help="A study in the record; default the latest.")
    ] = None,
    json: AsJson = False,
    tracking_uri: Uri = None,
) -> None:
    """List the trials of a study with their outcome and figures.

    Examples: avsc-search status lambda
              avsc-search status lambda --json
    """
    from avsc_core.record.reading.record import open_record
    from avsc_core.record.trials import describe_trial
    from studies.report.status import list_current_trials, print_status

    record = open_record(tracking_uri)
    study = record.get_study(name, "NAME").tags["avsc.study"]
    if json:
        _print_json([describe_trial(trial) for trial in list_current_trials(record, study)])
    else:
        print_status(record, study)


@app.command()
def best(name: StudyName, tracking_uri: Uri = None) -> None:
    """Print the best configuration of a study as key=value lines.

    Example: avsc-search best lambda
    """
    from avsc_core.record.winner import find_winner

    winner = find_winner(_open_record(name, tracking_uri), name, "NAME")
    trial = winner.trial
    err.print(f"{trial.name} {trial.key[:6]}: {winner.figure} ({trial.tags['avsc.data']})")
    for key, setting in list_settings(trial.config).items():
        typer.echo(f"{key}={format_value(setting)}")


@app.command()
def report(
    name: StudyName,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder; default reports/NAME.")
    ] = None,
    tracking_uri: Uri = None,
) -> None:
    """Report on a study: tables with intervals and tests, figures, costs; in the terminal and \
as files.

    Writes report.html (one page, nothing else needed), report.md, report.tex, tables/*.csv and \
figures/*.png.

    Example: avsc-search report lambda
    """
    from studies.report.build import build_report
    from studies.report.render import to_terminal, write_report

    made = build_report(_open_record(name, tracking_uri), name)
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

    made = build_report(_open_record(name, tracking_uri), name)
    folder = out_folder or Path("reports") / name / "figures"
    for path in write_pictures(made, folder):
        out.print(str(path), soft_wrap=True)


@app.command()
def export(
    name: StudyName,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder; default exports/NAME.")
    ] = None,
    tracking_uri: Uri = None,
) -> None:
    """Write a study's trials as CSV and Parquet, and its best configuration for \
`avsc-core train --config`.

    Example: avsc-search export lambda --out lambda
    """
    from studies.report.export import export_study

    folder = out_folder or Path("exports") / name
    for path in export_study(_open_record(name, tracking_uri), name, folder):
        out.print(str(path), soft_wrap=True)


@app.command()
def ui(
    study: Annotated[
        str | None, typer.Argument(help="A study in the record; default the latest.")
    ] = None,
    tracking_uri: Uri = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 5000,
) -> None:
    """Compare a study's trials in MLflow's pages, which only this machine can reach.

    Examples: avsc-search ui
              avsc-search ui lambda --port 5001
    """
    from studies.browse import browse

    browse(study, tracking_uri, port)


def _print_json(content: object) -> None:
    """Print JSON, in which a figure that is not a number is null."""
    typer.echo(to_json(content, indent=2, inf_nan_mode="null").decode())


def _open_record(name: str, tracking_uri: str | None) -> "Record":
    """Open the record that has study `name`.

    Raises UserError when there is none, at NAME, as the command's help calls the argument.
    """
    from avsc_core.record.reading.record import open_record

    recorder = open_record(tracking_uri)
    recorder.get_study(name, "NAME")
    return recorder


def _read_study(options: StudyOptions) -> Study:
    """Read and check the study file. Raises UserError with all faults, of `--data` too."""
    faults: list[Fault] = []
    with collect_faults(faults):
        study = read_study(
            find_study_file(options.file, "FILE"),
            preset=options.preset,
            data_given=options.data is not None,
            sets=options.sets or (),
            trials=options.trials,
            name=options.name,
            cpus=options.cpus,
            gpus=options.gpus,
            winner_of=partial(_find_base, options),
        )
    if options.data is not None and not options.data.is_dir():
        todo = "give the folder that holds audio/ and video/"
        faults.append(Fault("--data", f"{options.data} is not a folder", todo=todo))
    if faults:
        raise UserError(faults)
    return study


def _find_base(options: StudyOptions, name: str, source: str, where: str) -> tuple[str, Config]:
    """Find the trial of study `source` from which study `name` starts: its key and configuration.

    Only a study file with `best-of` needs it, so that others are checked without the record.
    """
    from avsc_core.record.reading.record import open_record
    from avsc_core.record.winner import find_pinned_winner

    return find_pinned_winner(open_record(options.tracking_uri), name, source, where)
