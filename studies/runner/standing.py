"""How far the record is with a study: what it asks, of which data, and what of it is left."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avsc_core.data.dataset import DataSet, describe_split
from avsc_core.data.features import open_data
from avsc_core.processes import Progress
from avsc_core.record.reading.record import Record
from avsc_core.record.reading.stored import StoredRun
from avsc_core.record.study_document import join_definition
from avsc_core.resolve import find_random_branches
from avsc_core.terminal import err
from studies.engine.strategy import Strategy
from studies.runner.prepare import (
    check_warm_start,
    compare_with_record,
    define_study,
    describe_missing_arms,
    make_served_plan,
    take_recorded_seeds,
)
from studies.runner.takeover import announce_takeover
from studies.study.metadata import describe_study
from studies.study.schema import Study


@dataclass(frozen=True)
class Standing:
    """What a study asks, and what the record has of it."""

    data: DataSet
    strategy: Strategy  # its plan is that of the study as it was begun
    run: StoredRun | None  # of the study
    document: Mapping[str, Any]  # of the study; empty without a run

    @property
    def is_done(self) -> bool:
        """Whether no trial is left to train or to take over from another study."""
        return self.run is not None and self.strategy.done and not self.strategy.taken_over

    @property
    def is_recorded(self) -> bool:
        """Whether the record has what the file says now, in the document and in the tags."""
        current = json.loads(json.dumps(self.current))  # as it comes from a document
        recorded = join_definition(self.run.tags) if self.run else {}
        is_same = bool(current["definition"] == recorded)
        return is_same and current.items() <= self.document.items()

    @property
    def current(self) -> dict[str, Any]:
        """What the study's document says of the file as it is now."""
        plan = self.strategy.plan
        return {"definition": define_study(plan, self.data), "metadata": describe_study(plan)}


def find_standing(
    study: Study,
    root: Path | None,  # of the data set; None: the embedded scenes
    record: Record,
    progress: Progress,
    again: bool = False,  # train also what other studies have trained
) -> Standing:
    """Compare a study with the record. Raises UserError when that has another question."""
    check_warm_start(record, study)
    study = take_recorded_seeds(study, record)
    data = open_data(root, progress)
    strategy = compare_with_record(make_served_plan(study, data), data, record, again)
    run = record.find_study(study.name)
    document = record.read_study_document(run.run_id) if run else {}
    return Standing(data, strategy, run, document)


def announce(standing: Standing) -> None:
    """Tell what a study has, and what of it is about to run."""
    strategy, data = standing.strategy, standing.data
    study = strategy.plan.study
    line = f"{study.name} on {data.title}"
    if data.skipped:
        line += f", {len(data.skipped)} clips left out"
    line += f", {describe_split(data, study.base.split)}: {strategy.total} trials"
    if strategy.reused:
        line += f", {strategy.reused} of them in the record already"
    if study.search and study.search.warm_start:
        line += f", the sampler knows {strategy.warm} trials of {study.search.warm_start}"
    err.print(line, soft_wrap=True)
    announce_takeover(strategy)
    for note in describe_missing_arms(strategy.plan):
        err.print(note, soft_wrap=True)
    if study.begun_earlier:
        why = "it was begun by a version without `select`"
        err.print(f"note: trials count with their best epoch: {why}", soft_wrap=True)

    branches = find_random_branches(study.base)
    if branches and not data.embedded:
        noun = "backbones" if len(branches) > 1 else "backbone"
        what = f"{' and '.join(branches)} {noun} from random weights"
        why = "the paper's start from published ones (audio.weights, visual.weights)"
        err.print(f"note: {what}; {why}", soft_wrap=True)
