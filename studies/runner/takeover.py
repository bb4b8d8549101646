"""Finished trainings that other studies of the record have are taken over, not trained again.

A training is the same where trial key, data, recipe (avsc_core/record/recipe.py) and the choice of
the epoch are the same. Taking it over copies its run into the study, linked to where it came from;
from then on it is a completed trial like any other. Searched trials are taken over when the
sampler suggests them, unless a scheduler could have stopped them.
"""

from collections import Counter
from typing import Any

from avsc_core.data.dataset import DataSet
from avsc_core.record.reading.record import Record
from avsc_core.record.recipe import compute_recipe
from avsc_core.record.trials import FinishedTraining
from avsc_core.terminal import err
from studies.engine.strategy import Strategy
from studies.study.plan import Plan


def find_elsewhere(plan: Plan, data: DataSet, recorder: Record) -> dict[str, FinishedTraining]:
    """Find the trainings of other studies that this study may take over, by trial key."""
    name = plan.study.name
    trainings = recorder.list_finished_trainings(data.fingerprint, compute_recipe(), but_of=name)
    studies = {training.study for training in trainings}
    if not studies:
        return {}

    # Of each of these studies, whether it chooses epochs as this one does, on data so called.
    wanted = _describe_choice(plan.definition, data.embedded)
    alike = set()
    for run in recorder.list_studies():
        study = run.tags["avsc.study"]
        if study in studies:
            embedded = run.tags.get("avsc.embedded") == "true"
            definition = recorder.read_definition(run.run_id)
            if _describe_choice(definition, embedded) == wanted:
                alike.add(study)
    return {training.key: training for training in trainings if training.study in alike}


def announce_takeover(strategy: Strategy) -> None:
    """Tell how many of the study's trials are taken over at its start, and from which studies."""
    counts = Counter(strategy.elsewhere[trial.key].study for trial in strategy.taken_over)
    if counts:
        studies = ", ".join(f"{count} of study {study}" for study, count in counts.items())
        what = f"{counts.total()} of {strategy.total} trials are taken over from other studies"
        err.print(f"note: {what}: {studies}; --again trains them", soft_wrap=True)


def _describe_choice(definition: dict[str, Any], embedded: bool) -> tuple[str, str, bool]:
    """Return the deciding metric and the rule by which epochs are chosen, and the kind of data."""
    metric = definition.get("metric", "").partition(", ")[0]
    return metric, str(definition.get("select") or "best"), embedded
