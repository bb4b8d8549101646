"""The studies of a record, as `avsc-search list` prints them: what each asks, how far it is, and
its best figure."""

from datetime import datetime
from typing import Any

from avsc_core.errors import UserError
from avsc_core.record.lease import has_owner
from avsc_core.record.reading.record import Record
from avsc_core.record.reading.stored import StoredRun
from avsc_core.record.winner import average, pick_best
from avsc_core.terminal import make_table, out
from studies.report.status import count_over, list_current_trials, name_record

LONGEST_QUESTION = 60  # characters; the whole question is in the report


def print_studies(record: Record) -> None:
    """Print a table of all studies, the latest first, and what to do with one."""
    studies = list_studies(record)
    if not studies:
        out.print("the record holds no study yet; `avsc-search run lambda` runs one")
        return
    header = ["study", "question", "data", "trials", "best", "last run", "state"]
    out.print(make_table("", header, map(_make_row, studies)))
    command = f"avsc-search status {studies[0]['study']}{name_record(record)}"
    out.print(f"`{command}` lists its trials", soft_wrap=True)


def list_studies(record: Record) -> list[dict[str, Any]]:
    """List what people ask about each study, the latest first."""
    return [describe_study(record, run) for run in record.list_studies()]


def describe_study(record: Record, run: StoredRun) -> dict[str, Any]:
    """Describe a study in the words of `avsc-search list --json`."""
    tags = run.tags
    name, metric = tags["avsc.study"], tags["avsc.metric"]
    trials = list_current_trials(record, name)
    over, planned = count_over(trials, tags)
    best = pick_best(trials, metric, record.read_definition(run.run_id).get("seeds", []))

    # A study of a killed command is running by its tag alone.
    state = tags.get("avsc.outcome", "running")
    if state == "running" and not has_owner(record, name):
        state = "interrupted"
    return {
        "study": name,
        "question": _read_question(record, run),
        "data": tags["avsc.data"],
        "over": over,
        "planned": planned,
        "metric": metric,
        "best": average(best, metric) if best else None,
        "started": int(tags.get("avsc.started", run.start_time)) / 1000,  # seconds since 1970
        "state": state,
    }


def _read_question(record: Record, run: StoredRun) -> str:
    """Read the question of a study; empty where its document is out of reach."""
    try:
        document = record.read_study_document(run.run_id)
    except UserError:
        return ""
    return str(document.get("metadata", {}).get("question", ""))


def _make_row(study: dict[str, Any]) -> list[str]:
    question = study["question"]
    if len(question) > LONGEST_QUESTION:
        question = f"{question[: LONGEST_QUESTION - 1]}\N{HORIZONTAL ELLIPSIS}"
    over, planned = study["over"], study["planned"]
    best = "" if study["best"] is None else f"{study['metric']} {study['best']:.4f}"
    return [
        study["study"],
        question,
        study["data"],
        f"{over}" if over == planned else f"{over} of {planned}",
        best,
        datetime.fromtimestamp(study["started"]).strftime("%Y-%m-%d %H:%M"),
        study["state"],
    ]
