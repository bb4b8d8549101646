"""The end of a report: what the study cost, its tested winner, and how to repeat it all."""

from collections import Counter

from avsc_core.terminal import format_duration
from search_spaces.catalogue import SAMPLERS_WITHOUT_MEMORY
from studies.report.blocks import Table, format_number
from studies.report.study_results import StudyResults, is_searched


def make_cost_table(study: StudyResults) -> Table:
    """Add up time and epochs, what stopping early saved, and the costs estimated before."""
    completed = study.completed
    stopped = [trial for trial in study.trials if trial.outcome == "stopped"]
    searched = sum(map(is_searched, completed))
    rows = [["completed trials", f"{len(completed)}, {searched} of them searched"]]

    taken = Counter(trial.taken_from for trial in completed if trial.taken_from)
    if taken:
        sources = ", ".join(f"{count} of study {name}" for name, count in taken.items())
        rows.append(["taken over from other studies", sources])

    # Trials that a scheduler stopped: how many epochs they ran of those that were planned.
    epochs = study.count_epochs(stopped)
    planned_epochs = sum(trial.config.training.epochs for trial in stopped)
    saved = f"{len(stopped)}, after {epochs} of {planned_epochs} epochs" if stopped else "none"
    rows.append(["trials stopped early", saved])

    # All trials have taken time; the time of one is the mean of those that did not fail.
    # Those that were taken over have cost this study nothing.
    total = 0.0
    seconds_of_ended = []
    for trial in study.trials:
        if trial.taken_from:
            continue
        seconds = trial.metrics.get("seconds", 0.0)
        total += seconds
        if trial.outcome in ("complete", "stopped"):
            seconds_of_ended.append(seconds)
    mean = sum(seconds_of_ended) / max(1, len(seconds_of_ended))
    rows.append(
        ["training time", f"{format_duration(total)} in all, {format_duration(mean)} a trial"]
    )

    estimate = study.cost_estimate
    if estimate:
        duration = format_duration(3600 * estimate["hours"])
        trials = f"{estimate['trials']} trials, {estimate['side_by_side']} side by side"
        rows.append(["estimated before the last invocation", f"{duration} for {trials}"])
        gigabytes = estimate["memory"] / 2**30  # the record has bytes
        rows.append(["memory", f"{gigabytes:.1f} GiB a trial on {estimate['device']}"])
    return Table("cost", "Cost", ["", "measured"], rows)


def make_test_table(study: StudyResults) -> Table | None:
    """Make the table of retrained winners: the only figures of the test split; None without any."""
    if not study.retrainings:
        return None
    rows = []
    for trial, is_of_current_winner in study.retrainings:
        winner = "today's winner" if is_of_current_winner else "an earlier winner"
        acc = format_number(trial.metrics["test_acc"])
        logloss = format_number(trial.metrics["test_logloss"])
        rows.append([trial.run_id[:8], winner, str(trial.seed), acc, logloss])

    title = "The retrained winner on the test split"
    header = ["run", "of", "seed", "test Acc", "test Logloss"]
    note = "The test split, read once for each retraining (`avsc-core train --best`)."
    return Table("test", title, header, rows, note)


def make_reproduction_table(study: StudyResults) -> Table:
    """List everything that is needed to obtain the same figures again."""
    # The commands and versions.
    rows = []
    for invocation in study.invocations:
        for name, value in invocation.items():
            rows.append([name, value])

    # Trainings of other studies.
    for trial in study.completed:
        if trial.taken_from:
            source = f"run {trial.tags['avsc.taken_from']} of study {trial.taken_from}"
            rows.append([f"{trial.arm}, seed {trial.seed}", f"taken over from {source}"])

    # The data and the seeds.
    rows.append(["data", f"{study.data_title}, fingerprint {study.data_fingerprint[:16]}"])
    rows.append(["seeds", ", ".join(map(str, study.seeds))])
    rows.append(["epochs", f"select: {study.rule}"])

    # The searches, with every dimension of their space.
    if study.space.dimensions:
        options = [f"{name} {value}" for name, value in study.search_options.items()]
        rows.append(["search", ", ".join(options)])
        rows.append(["space", f"{study.space_hash}, which is:"])
        for key, domain in study.space.dimensions.items():
            rows.append([f"- {key}", domain.describe()])
    for search in study.asked_searches:
        rows.append([f"trials of the {search.title}", str(search.trials)])

    if study.base_trial:
        base_study, key = study.base_trial
        rows.append(["base", f"trial {key} of study {base_study}"])

    notes = []
    if len(study.invocations) > 1:
        notes.append(
            "The study was run by several invocations of the command;"
            " those that differ are listed one after another."
        )
    notes += describe_order(study)
    note = " ".join(notes)
    return Table("reproduce", "How to repeat it", ["", ""], rows, note)


def describe_order(study: StudyResults) -> list[str]:
    """Say where the trials of a search follow from the order in which others ended."""
    sampler = study.search_options.get("sampler", "")
    scheduler = study.search_options.get("scheduler", "none")
    learning = [sampler] if sampler not in ("", *SAMPLERS_WITHOUT_MEMORY) else []
    if scheduler != "none":
        learning.append(scheduler)
    if not learning:
        return []
    return [
        f"What {' and '.join(learning)} decides follows from the trials that have ended by then."
        " One trial at a time, the same command makes the same trials, also when it is killed and"
        " continued; with several side by side they may end in another order, and trials differ."
    ]
