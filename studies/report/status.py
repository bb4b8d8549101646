"""The tables of trials that the commands print: `avsc-search status`, and the end of a run."""

from collections.abc import Iterator

from rich.table import Table

from avsc_core.metrics import find_figure, rank_key
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import TrialRecord
from avsc_core.record.winner import average, find_winner, select_full_trials
from avsc_core.terminal import make_table, out
from search_spaces.inactive import list_active
from studies.report.study_results import is_searched
from studies.study.schema import Study

MOST_SEARCHED_SHOWN = 5  # in the closing table
MOST_REASONS = 10  # of failures, that `status` shows
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def print_status(recorder: Recorder, name: str) -> None:
    """Print every trial of a study, in the order they started."""
    run = recorder.get_study(name)
    trials = recorder.list_trials(name)
    out.print(_make_trials_table(f"{name} on {run.data.tags['avsc.data']}", trials, trials))
    for line in _describe_failures(trials):
        out.print(line, soft_wrap=True)


def print_closing(recorder: Recorder, study: Study, finished: bool) -> None:
    """Print the arms, the best searched trials, the best configuration, and what to do next.

    A winner is retrained only of a `finished` study, so only then is that a next step.
    """
    trials = recorder.list_trials(study.name)
    completed = select_full_trials(trials)
    if not completed:
        out.print(f"no trial of {study.name} is complete yet")
        return
    data_title = recorder.get_study(study.name).data.tags["avsc.data"]

    # The table: all arms, then the first few of the search.
    searched = [trial for trial in completed if is_searched(trial)]
    searched.sort(key=lambda trial: rank_key(study.metric, trial.metrics, trial.key))
    arms = [trial for trial in completed if not is_searched(trial)]
    shown = arms + searched[:MOST_SEARCHED_SHOWN]
    out.print(_make_trials_table(f"{study.name} on {data_title}", shown, completed))

    # The best configuration.
    stopped = sum(trial.outcome == "stopped" for trial in trials)
    out.print(f"{len(completed)} completed trials, {stopped} stopped early", soft_wrap=True)
    winner = find_winner(recorder, study.name)
    best = winner.trial
    count = len(winner.trials)
    mean = f", mean over {count} seeds," if count > 1 else ""
    out.print(
        f"best by {study.metric}: {best.name} {best.key[:6]}, "
        f"val Acc {average(winner.trials, 'val_acc'):.4f}, "
        f"val Logloss {average(winner.trials, 'val_logloss'):.4f}{mean} on {data_title}",
        style="bold",
        soft_wrap=True,
    )

    # What to do next, one command a line.
    report = f"avsc-search report {study.name}"
    _print_step("next:", report, "tables, tests, figures: terminal, HTML, LaTeX, CSV")
    _print_step("", "avsc-search ui", "compare trials in the browser")
    if finished:
        train = f"avsc-core train --best --study {study.name}"
        _print_step("", train, "retrain the winner, read the test split once")


def _describe_failures(trials: list[TrialRecord]) -> Iterator[str]:
    """Describe why trials failed or diverged: a line for each reason, the most frequent first."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for trial in trials:
        if trial.error:
            reasons.setdefault((trial.outcome, trial.error), []).append(trial.label)

    by_count = sorted(reasons.items(), key=lambda item: -len(item[1]))
    for (outcome, error), labels in by_count[:MOST_REASONS]:
        others = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        yield f"{outcome}: {labels[0]}{others}: {error}"
    if len(by_count) > MOST_REASONS:
        yield f"{len(by_count) - MOST_REASONS} more reasons: the tag avsc.error of a trial's run"


def _print_step(head: str, command: str, purpose: str) -> None:
    out.print(f"{head:<5} {command:<45} # {purpose}", soft_wrap=True)


def _make_trials_table(title: str, shown: list[TrialRecord], compared: list[TrialRecord]) -> Table:
    """Make the table of the trials `shown`, with the settings in which those `compared` differ.

    Settings that do not fit are left out and counted, the last ones first.
    """
    varying = _list_varying_settings(compared)
    for count in range(len(varying), -1, -1):
        names = [key.removeprefix("loss_weights.") for key in varying[:count]]
        header = ["arm", *names, "outcome", "best epoch", "val Acc", "val Logloss"]
        table = make_table(title, header, [_make_row(trial, varying[:count]) for trial in shown])
        if not _is_cut(table):
            break

    left_out = len(varying) - count
    if left_out:
        table.caption = f"{left_out} more settings differ; `avsc-search report` lists them"
    return table


def _is_cut(table: Table) -> bool:
    """Tell whether a table is too wide to show every word; rich then writes an ellipsis."""
    lines = out.render_lines(table)
    return any(ELLIPSIS in segment.text for line in lines for segment in line)


def _list_varying_settings(trials: list[TrialRecord]) -> list[str]:
    """List the active settings that have more than one value among the trials."""
    seen: dict[str, set[str]] = {}
    for trial in trials:
        for key, value in list_active(trial.config).items():
            seen.setdefault(key, set()).add(str(value))
    return [key for key, values in seen.items() if len(values) > 1]


def _make_row(trial: TrialRecord, varying: list[str]) -> list[str]:
    cells = [trial.label]
    settings = list_active(trial.config)
    for key in varying:
        value = settings.get(key, "")
        cells.append(f"{value:.3g}" if isinstance(value, float) else str(value))

    # A trial that was cut short has no figures; its cells stay empty.
    cells.append(trial.outcome)
    best_epoch = trial.metrics.get("best_epoch")
    cells.append("" if best_epoch is None else f"{best_epoch:.0f}")
    for name in ("val_acc", "val_logloss"):
        figure = find_figure(trial.metrics, name)
        cells.append("" if figure is None else f"{figure:.4f}")
    return cells
