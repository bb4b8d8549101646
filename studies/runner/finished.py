"""Recognises a study with nothing left to run, before anything is started or imported for one.

Neither Ray nor torch nor MLflow is needed to see that. Wherever something may be left, to run or to
put right, the usual way is taken.
"""

from pathlib import Path

from avsc_core.processes import Progress
from avsc_core.record.address import (
    choose_address,
    find_missing_file,
    locate_checkpoint,
    locate_database,
    locate_state,
)
from avsc_core.record.reading.record import COPY, Record
from avsc_core.record.study_document import join_definition
from studies.study.metadata import CLIPS
from studies.study.schema import Study


def find_finished(
    study: Study,
    root: Path | None,  # of the data set; None: the embedded scenes
    uri: str | None,
    progress: Progress,
    again: bool = False,  # train also what other studies have trained
) -> Record | None:
    """Return the record when a study has nothing left to run or to write, and say so; else None.

    Only a file is asked: a server is asked while Ray starts. A study that adds seeds until told
    takes its looks first. Raises UserError when the record has another question.
    """
    is_file = locate_database(choose_address(uri)) and not find_missing_file(uri)
    if study.looks or not is_file:
        return None
    record = Record(uri)
    if not _is_whole(record, study.name):
        return None
    from studies.runner.standing import announce, find_standing  # samplers and media load here

    # Notes and names may have changed, which is written down while nobody else runs the study.
    standing = find_standing(study, root, record, progress, again)
    if not (standing.is_done and standing.is_recorded):
        return None
    announce(standing)
    return record


def _is_whole(record: Record, name: str) -> bool:
    """Tell whether a study came to its end, and no process runs it or left something behind.

    These are the traces of what `repair.py`, the spool and the lease put right at each start.
    """
    run = record.find_study(name)
    if run is None or (run.tags.get("avsc.outcome"), run.status) != ("complete", "FINISHED"):
        return False
    if record.read_lease(name) or not join_definition(run.tags):
        return False
    if not record.has_artifact(run.run_id, CLIPS):
        return False

    checkpoints = locate_checkpoint(record.uri, name, "").parent
    spools = (locate_state(record.uri) / "spool" / name).glob("*.jsonl")
    if any(checkpoints.glob("*")) or any(path.stat().st_size for path in spools):
        return False
    is_open = record.find_runs(name, "trial", status="RUNNING") or record.find_runs(
        name, "trial", {"avsc.outcome": "running"}
    )
    return not is_open and not record.find_runs(name, COPY)
