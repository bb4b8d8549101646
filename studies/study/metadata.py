"""What the record keeps of a study beside its trials, so that a report can say what was asked and
how to repeat it.

`describe_study` -> question and source, arms with their factors and published figures, searches.
`describe_invocation` -> the command and the versions of one invocation that trained something.
`format_clips` -> `clips_val.tsv`: the validation clips with their true scene and location, in the
order of every trial's predictions.
"""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avsc_core import __version__
from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.record import environment
from avsc_core.record.address import hide_secrets
from avsc_core.resolve import configuration_key, format_value, list_settings, resolve
from search_spaces.inactive import reset_inactive
from studies.study.plan import Plan, PlannedSearch, reseed
from studies.study.schema import Arm, PublishedFigures, Study, StudyTable

CLIPS = "clips_val.tsv"  # the artifact that `format_clips` fills
LIBRARIES = (*environment.LIBRARIES, "ray", "optuna", "mlflow")


def describe_study(plan: Plan) -> dict[str, Any]:
    """Describe a study as JSON."""
    study = plan.study
    return {
        "question": study.question,
        "source": study.source,
        "preset": study.preset,
        "changed": _list_base_changes(study),
        "best_of": study.best_of,
        "metrics": list(study.metrics),
        "seeds": list(study.seeds),
        "looks": list(study.looks),
        "design": study.design,
        "retune": study.retune,
        "arms": [_describe_arm(arm, plan.missing.get(arm.name, "")) for arm in study.arms],
        "published": _describe_systems(study.published),
        "searches": [_describe_search(search) for search in plan.searches],
        "ladder": study.final is not None,
        "tables": [_describe_table(table) for table in study.tables],
        "file": study.path.name,
        # For people: what the file said when the study last ran.
        "text": study.path.read_text(encoding="utf-8-sig"),
    }


def describe_invocation() -> dict[str, str]:
    """Describe how the command was started and by which versions, without passwords."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    commit = environment.read_commit()
    return {
        "command": hide_secrets(command),
        "avsc": f"{__version__}, commit {commit}" if commit else __version__,
        "libraries": environment.list_versions(LIBRARIES),
    }


def list_seed_counts(earlier: Mapping[str, Any], study: Study) -> list[int]:
    """List how many seeds a study had each time before seeds were added.

    `earlier` is its document in the record, empty when the study is new.
    """
    counts: list[int] = earlier.get("earlier_seed_counts", [])
    count = len(earlier["definition"]["seeds"]) if earlier else len(study.seeds)
    return [*counts, count] if count < len(study.seeds) else counts


def format_clips(data: DataSet, config: Config) -> str:
    """Format file name, scene and location of the validation clips, TAB-separated."""
    lines = ["filename\tscene\tlocation"]
    for row in split_rows(data, config.split).validation:
        clip = data.clips[row]
        scene = data.scene_names[data.scenes[row]]
        lines.append(f"{clip.name}\t{scene}\t{clip.location}")
    return "\n".join(lines) + "\n"


def _describe_arm(arm: Arm, missing: str) -> dict[str, Any]:
    return {
        "name": arm.name,
        "table": arm.table,
        "row": configuration_key(arm.config),
        "levels": dict(arm.levels),
        "note": arm.note,
        "missing": missing,
        "published": arm.published and arm.published.model_dump(),
    }


def _describe_systems(published: Mapping[str, PublishedFigures]) -> dict[str, Any]:
    return {name: figures.model_dump() for name, figures in published.items()}


def _describe_table(table: StudyTable) -> dict[str, Any]:
    return {**table._asdict(), "published": _describe_systems(table.published)}


def _describe_search(search: PlannedSearch) -> dict[str, Any]:
    base = reset_inactive(reseed(search.base, search.seed))
    return {
        "name": search.name,
        "trials": search.trials,
        "has_arm": search.find_point(base) is not None,
    }


def _list_base_changes(study: Study) -> list[str]:
    """List what the base sets otherwise than its preset."""
    if study.best_of:
        return []
    preset = list_settings(resolve(study.preset))
    base = list_settings(study.base)
    return [f"{key} {format_value(value)}" for key, value in base.items() if value != preset[key]]
