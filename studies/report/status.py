"""A study's trials read back from the record, as the tables people look at."""

from rich.table import Table

from avsc_core.metrics import rank_key
from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import TrialRecord
from avsc_core.record.winner import pick_best, select_full_trials
from avsc_core.terminal import make_table, out
from search_spaces.space import list_active
from studies.study.plan import is_search
from studies.study.schema import Study

SHOWN = 5  # searched trials in the closing table


def print_status(recorder: Recorder, name: str) -> None:
    """Every trial of a study, in the order they started."""
    run = recorder.get_study(name)
    trials = recorder.list_trials(name)
    out.print(_table(f"{name} on {run.data.tags['avsc.data']}", trials, trials))


def print_closing(recorder: Recorder, study: Study, finished: bool) -> None:
    """All arms, the best of the search, the best trial, and what to do next; a winner is that of a finished study."""
    trials = recorder.list_trials(study.name)
    complete = select_full_trials(trials)
    if not complete:
        out.print(f"no trial of {study.name} is complete yet")
        return
    data = recorder.get_study(study.name).data.tags["avsc.data"]
    searched = [trial for trial in complete if is_search(trial.arm)]
    searched.sort(key=lambda trial: rank_key(study.metric, trial.metrics, trial.key))
    shown = [trial for trial in complete if not is_search(trial.arm)] + searched[:SHOWN]
    out.print(_table(f"{study.name} on {data}", shown, complete))
    stopped = sum(trial.outcome == "stopped" for trial in trials)
    out.print(
        f"{len(complete)} trials ran to their end, {stopped} were stopped early", soft_wrap=True
    )
    best = pick_best(complete, study.metric)
    figures = f"val Acc {best.metrics['best_val_acc']:.4f}, val Logloss {best.metrics['best_val_logloss']:.4f}"
    out.print(
        f"best by {study.metric}: {best.arm} {best.key[:6]}, {figures} on {data}",
        style="bold",
        soft_wrap=True,
    )
    out.print(
        f"next: {f'avsc-search report {study.name}':<45} # tables, tests, figures: terminal, HTML, LaTeX, CSV\n"
        f"      {'avsc-search ui':<45} # compare trials in the browser",
        soft_wrap=True,
    )
    if finished:
        train = f"avsc-core train --best --study {study.name}"
        out.print(
            f"      {train:<45} # retrain the winner, read the test split once", soft_wrap=True
        )


def _varying(trials: list[TrialRecord]) -> list[str]:
    """The settings in which the trials differ: the columns worth a reader's time."""
    seen: dict[str, set[str]] = {}
    for trial in trials:
        for key, value in list_active(trial.config).items():
            seen.setdefault(key, set()).add(str(value))
    return [key for key, values in seen.items() if len(values) > 1]


def _table(title: str, shown: list[TrialRecord], among: list[TrialRecord]) -> Table:
    """`shown` with the settings in which the trials of `among` differ."""
    varying = _varying(among)
    names = [key.removeprefix("loss_weights.") for key in varying]
    rows = [_row(trial, varying) for trial in shown]
    return make_table(
        title, ["arm", *names, "outcome", "best epoch", "val Acc", "val Logloss"], rows
    )


def _row(trial: TrialRecord, varying: list[str]) -> list[str]:
    settings = list_active(trial.config)
    values = [settings.get(key, "") for key in varying]
    epoch, *scores = (
        trial.metrics.get(name) for name in ("best_epoch", "best_val_acc", "best_val_logloss")
    )
    return [
        f"{trial.arm} {trial.key[:6]}" if is_search(trial.arm) else trial.arm,
        *(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values),
        trial.outcome,
        "" if epoch is None else f"{epoch:.0f}",
        *("" if score is None else f"{score:.4f}" for score in scores),
    ]
