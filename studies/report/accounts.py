"""What a study asked, what it cost, what is missing, what the retrained winner does, and how to repeat it all."""

from collections import Counter

from avsc_core.record.winner import pick_best, select_full_trials
from avsc_core.resolve import flatten
from avsc_core.terminal import format_duration
from studies.report.blocks import Table, Words, number, setting
from studies.report.gather import Gathered
from studies.study.plan import is_search

OVER = ("complete", "stopped", "diverged", "failed")


def question(study: Gathered) -> Words:
    """What was asked of which data, and how far it is."""
    about = study.about
    outcomes = Counter(trial.outcome for trial in study.trials)
    counted = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    lines = [about["question"]]
    if about["source"]:
        lines.append(f"Asks what {about['source']} of the paper asks.")
    clips = study.clips
    lines.append(
        f"Data: {study.title}; validated on {len(clips.names)} clips of {len(set(clips.places))} locations."
    )
    base = (
        f"the best of study {about['best_of'][0]}"
        if about["best_of"]
        else f"preset {about['preset']}"
    )
    own = f", with {', '.join(about['changed'])}" if about["changed"] else ""
    lines.append(f"Base: {base}{own}. Seeds: {', '.join(map(str, study.seeds))}.")
    if study.about["ladder"]:
        lower, upper = (dict(flatten(study.definition[rung])) for rung in ("base", "final"))
        changed = [
            f"{key} {setting(upper[key])} ({setting(lower[key])})"
            for key in upper
            if upper[key] != lower[key]
        ]
        lines.append(f"The upper rung has, and the lower one had: {', '.join(changed)}.")
    lines.append(
        f"Trials: {counted}. Figures are of trials that ran to their end (complete), on validation."
    )
    return Words("Question", lines)


def missing(study: Gathered) -> Table | None:
    """Planned and not there: rows without all their seeds, searches that are not through, trials that failed."""
    rows = [
        [row.name, f"{len(row.trials)} of {row.wanted} seeds", row.note or "not run to their end"]
        for row in study.rows
        if len(row.trials) < row.wanted
    ]
    ended = study.tags.get("avsc.outcome") == "complete"
    for search in study.about["searches"]:
        over = sum(trial.arm == search["name"] and trial.outcome in OVER for trial in study.trials)
        if over < search["trials"]:
            why = "nothing new was left to try" if ended else "not run yet"
            rows.append([search["name"], f"{over} of {search['trials']} trials", why])
    if study.about["ladder"] and not study.upper:
        rows.append(["upper rung", "0 trials", "begins when the search is over"])
    for trial in study.trials:
        if trial.outcome in ("failed", "diverged"):
            words = trial.tags.get("avsc.error", "").strip().splitlines()
            rows.append(
                [
                    f"{trial.arm} {trial.key[:6]} seed {trial.seed}",
                    trial.outcome,
                    words[-1] if words else "",
                ]
            )
    return Table("missing", "Missing", ["what", "how much is there", "why"], rows) if rows else None


def cost(study: Gathered) -> Table:
    """Time and epochs, what stopping early saved, and what the card had said before."""
    ended = [trial for trial in study.trials if trial.outcome in ("complete", "stopped")]
    seconds = sum(trial.metrics.get("seconds", 0.0) for trial in study.trials)
    mean = sum(trial.metrics.get("seconds", 0.0) for trial in ended) / max(1, len(ended))
    searched = sum(is_search(trial.arm) and trial.outcome == "complete" for trial in ended)
    stopped = [trial for trial in ended if trial.outcome == "stopped"]
    ran = sum(epochs_of(study, trial.run_id) for trial in stopped)
    planned_epochs = sum(trial.config.training.epochs for trial in stopped)
    rows = [
        ["trials to their end", f"{len(ended) - len(stopped)}, {searched} of them searched"],
        [
            "trials stopped early",
            f"{len(stopped)}, after {ran} of {planned_epochs} epochs" if stopped else "none",
        ],
        ["training time", f"{format_duration(seconds)} in all, {format_duration(mean)} a trial"],
    ]
    card = study.about.get("cost")
    if card:
        told = f"{format_duration(3600 * card['hours'])} for {card['trials']} trials, {card['side_by_side']} side by side"
        rows.append(["said before the last sitting", told])
        rows.append(["memory", f"{card['memory'] / 2**30:.1f} GiB a trial on {card['device']}"])
    return Table("cost", "Cost", ["", "measured"], rows)


def epochs_of(study: Gathered, run_id: str) -> int:
    """How many epochs a trial ran."""
    return max(
        (epoch for epoch, _ in study.recorder.read_history(run_id, "train_total")), default=0
    )


def retrained(study: Gathered) -> Table | None:
    """The winner, trained on training and validation clips: the only figures of the test split."""
    if not study.retrained:
        return None
    complete = select_full_trials(study.trials)
    winner = pick_best(complete, study.metric).run_id if complete else ""
    rows = []
    for trial in study.retrained:
        whose = "today's winner" if trial.tags.get("avsc.winner") == winner else "an earlier winner"
        figures = (number(trial.metrics[f"test_{name}"]) for name in ("acc", "logloss"))
        rows.append([trial.run_id[:8], whose, str(trial.seed), *figures])
    note = "The test split, read once for each retraining (`avsc-core train --best`)."
    header = ["run", "of", "seed", "test Acc", "test Logloss"]
    return Table("test", "The retrained winner on the test split", header, rows, note)


def reproduce(study: Gathered) -> Table:
    """Everything that the same figures need."""
    rows = [
        [name, value] for each in _distinct(study.about["sittings"]) for name, value in each.items()
    ]
    rows += [
        ["data", f"{study.title}, fingerprint {study.definition['data'][:16]}"],
        ["seeds", ", ".join(map(str, study.seeds))],
    ]
    search = study.definition["search"]
    if search:
        told = {
            name: value
            for name, value in search.items()
            if name not in ("space", "space_hash") and value
        }
        rows.append(["search", ", ".join(f"{name} {value}" for name, value in told.items())])
        rows.append(["space", f"{search['space_hash']}, which is:"])
        dimensions = study.space.dimensions if study.space else {}
        rows += [[f"- {key}", domain.describe()] for key, domain in dimensions.items()]
    rows += [[f"trials of {each['name']}", str(each["trials"])] for each in study.about["searches"]]
    if study.about["best_of"]:
        rows.append(
            ["base", f"trial {study.about['best_of'][1]} of study {study.about['best_of'][0]}"]
        )
    several = len(_distinct(study.about["sittings"])) > 1
    note = (
        "It was run in several sittings; those that differ are listed one after another."
        if several
        else ""
    )
    return Table("reproduce", "How to repeat it", ["", ""], rows, note)


def _distinct(sittings: list[dict[str, str]]) -> list[dict[str, str]]:
    """Sittings that differ from the one before."""
    return [
        each for place, each in enumerate(sittings) if place == 0 or each != sittings[place - 1]
    ]
