"""The tables of trials that the commands print: `avsc-search status`, and the end of a run.

People read no table of thousands of lines, so of searched trials only so many are shown as a screen
or two hold; `avsc-search export` writes all.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping

from rich.table import Table

from avsc_core.metrics import find_figure, rank_key
from avsc_core.record.address import choose_address, hide_secrets
from avsc_core.record.lease import has_owner
from avsc_core.record.reading.record import Record
from avsc_core.record.trials import FINISHED, SEARCH, TrialRecord
from avsc_core.record.winner import average, find_winner, select_full_trials
from avsc_core.terminal import make_table, out
from search_spaces.inactive import list_active
from studies.study.schema import Study

MOST_SEARCHED_SHOWN = 5  # in the closing table
FEW = 50  # searched trials, all of which `status` shows; of more, the best and the latest
MOST_REASONS = 10  # of failures, that `status` shows
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def list_current_trials(recorder: Record, name: str) -> list[TrialRecord]:
    """List the trials of a study as they are now, in the order they started.

    What no process runs any more was interrupted, though nobody could record it.
    """
    trials = recorder.list_trials(name)
    if any(trial.outcome == "running" for trial in trials) and not has_owner(recorder, name):
        for place, trial in enumerate(trials):
            if trial.outcome == "running":
                trials[place] = trial._replace(outcome="interrupted")
    return trials


def print_status(recorder: Record, name: str) -> None:
    """Print the trials of a study in the order they started; of a long search the best and the
    latest."""
    tags = recorder.get_study(name).tags
    trials = list_current_trials(recorder, name)
    shown = _select_shown(trials, tags["avsc.metric"])
    out.print(_make_trials_table(f"{name} on {tags['avsc.data']}", shown, trials))
    if len(shown) < len(trials):
        outcomes = Counter(trial.outcome for trial in trials)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
        what = f"{len(shown)} of {len(trials)} trials, the best and the latest of the search"
        out.print(f"{what}; in all {counts}", soft_wrap=True)
        out.print(f"`avsc-search export {name}` writes them all", soft_wrap=True)
    for line in describe_failures(trials):
        out.print(line, soft_wrap=True)

    over, planned = count_over(trials, tags)
    if over < planned:
        running = sum(trial.outcome == "running" for trial in trials)
        rest = f", {running} running" if running else ""
        out.print(f"{over} of {planned} trials are over{rest}", soft_wrap=True)


def count_over(trials: list[TrialRecord], tags: Mapping[str, str]) -> tuple[int, int]:
    """Count the trials of a study that are over, and all that were planned when it last began.

    `tags` are those of the study's run; earlier versions wrote no number there.
    """
    over = sum(trial.outcome in FINISHED for trial in trials)
    return over, max(int(tags.get("avsc.planned", 0)), len(trials))


def print_closing(recorder: Record, study: Study, finished: bool) -> None:
    """Print the arms, the best searched trials, the best configuration, and what to do next.

    A winner is retrained only of a `finished` study, so only then is that a next step.
    """
    trials = recorder.list_trials(study.name)
    completed = select_full_trials(trials)
    if not completed:
        out.print(f"no trial of {study.name} is complete yet")
        return
    data_title = recorder.get_study(study.name).tags["avsc.data"]

    # The table: all arms, then the first few of the search.
    searched = [trial for trial in completed if trial.role == SEARCH]
    searched.sort(key=lambda trial: rank_key(study.metric, trial.metrics, trial.key))
    arms = [trial for trial in completed if trial.role != SEARCH]
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
    there = name_record(recorder)
    report = f"avsc-search report {study.name}{there}"
    _print_step("next:", report, "tables, tests, figures: terminal, HTML, LaTeX, CSV")
    _print_step("", f"avsc-search ui {study.name}{there}", "compare trials in the browser")
    if finished:
        train = f"avsc-core train --best --study {study.name}{there}"
        _print_step("", train, "retrain the winner, read the test split once")


def _select_shown(trials: list[TrialRecord], metric: str) -> list[TrialRecord]:
    """Select all trials but searched ones; of these the best and the latest, half of each."""
    searched = [trial for trial in trials if trial.role == SEARCH]
    if len(searched) <= FEW:
        return trials
    best = [trial for trial in searched if trial.outcome == "complete"]
    best.sort(key=lambda trial: rank_key(metric, trial.metrics, trial.key))
    chosen = {trial.run_id for trial in [*best[: FEW // 2], *searched[-FEW // 2 :]]}
    return [trial for trial in trials if trial.run_id in chosen or trial.role != SEARCH]


def describe_failures(trials: list[TrialRecord]) -> Iterator[str]:
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


def name_record(record: Record) -> str:
    """Return the option that names the record, where a command would look elsewhere without it."""
    if record.uri == choose_address(None):
        return ""
    if hide_secrets(record.uri) != record.uri:
        return " --tracking-uri ADDRESS"  # nobody's password is shown
    return f" --tracking-uri {shlex.quote(record.uri)}"


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
    first: dict[str, object] = {}
    varying: dict[str, None] = {}
    for trial in trials:
        for key, value in list_active(trial.config).items():
            if first.setdefault(key, value) != value:
                varying[key] = None
    return [key for key in first if key in varying]


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
