"""The frame of a report: what the study asks of which data, and what of it is missing."""

from collections import Counter

from studies.report.blocks import Table, Words, format_setting
from studies.report.study_results import StudyResults, read_error

# The outcomes of trials that are over; others are running, or were interrupted and will continue.
ENDED = ("complete", "stopped", "diverged", "failed")


def describe_question(study: StudyResults) -> Words:
    """Say what was asked, of which data, from which base, and how many trials there are."""
    lines = [study.question]
    if study.source:
        lines.append(f"Asks what {study.source} of the paper asks.")
    if study.tables:
        lines += [f"{table.table_title}: {table.question}" for table in study.tables]
        rows, configurations = study.asked_trainings
        seeds = f", each with {len(study.seeds)} seeds" if len(study.seeds) > 1 else ""
        lines.append(f"{rows} rows ask for {configurations} different trainings{seeds}.")

    # The data: figures are of its validation clips.
    locations = len(set(study.clips.places))
    lines.append(
        f"Data: {study.data_title}; validated on {len(study.clips.names)} clips"
        f" of {locations} locations."
    )

    # The configuration that all arms and searches start from.
    base = f"preset {study.preset}"
    if study.base_trial:
        base = f"the best of study {study.base_trial[0]}"
    if study.preset_changes:
        base += f", with {', '.join(study.preset_changes)}"
    seeds = ", ".join(map(str, study.seeds))
    if study.looks:
        seeds += f"; added until every difference is told, at most {study.looks[-1]}"
    lines.append(f"Base: {base}. Seeds: {seeds}.")

    # What makes the full rung of a ladder full.
    if study.is_ladder:
        changes = ", ".join(_list_rung_changes(study))
        lines.append(f"Settings of the full rung (of the cheap rung): {changes}.")

    # How far the study is.
    outcomes = Counter(trial.outcome for trial in study.trials)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    lines.append(f"Trials: {counts}. Figures are of completed trials, on validation.")

    # The same training comes to other digits on another device.
    if len(study.devices) > 1:
        counts = "; ".join(f"{count} on {name}" for name, count in study.devices.most_common())
        lines.append(f"Not all on one device, so digits differ: {counts}.")
    return Words("Question", lines)


def list_missing(study: StudyResults) -> Table | None:
    """List what was planned and is missing; None when nothing is."""
    # Rows without all their seeds.
    rows = []
    for row in study.rows:
        if not row.is_whole:
            seeds = f"{len(row.trials)} of {row.seeds_wanted} seeds"
            rows.append([row.name, seeds, row.note or "not completed"])

    # Searches that are not over, and a full rung that has not begun.
    reason = "nothing new was left to try" if study.is_finished else "not run yet"
    for search in study.asked_searches:
        ended = sum(trial.outcome in ENDED for trial in study.list_trials_of(search))
        if ended < search.trials:
            rows.append([search.title, f"{ended} of {search.trials} trials", reason])
    if study.is_ladder and not study.full_rung_rows:
        rows.append(["full rung", "0 trials", "begins when the search is over"])

    # Trials that failed or diverged.
    for trial in study.trials:
        if trial.outcome in ("failed", "diverged"):
            name = f"{trial.name} {trial.key[:6]} seed {trial.seed}"
            rows.append([name, trial.outcome, read_error(trial)])
    if not rows:
        return None
    return Table("missing", "Missing", ["what", "how much is there", "why"], rows)


def _list_rung_changes(study: StudyResults) -> list[str]:
    """List the settings in which the rungs differ, as "key full (cheap)"."""
    changes = []
    for key, value in study.full_rung_settings.items():
        cheap_value = study.base_settings[key]
        if value != cheap_value:
            changes.append(f"{key} {format_setting(value)} ({format_setting(cheap_value)})")
    return changes
