"""Arms that a study takes over from other study files, each file being one table of its report.

    tables: [k_mode, modules, lambda, modality]

A file gives its arms with its own base settings, its published figures and its notes. Seeds,
metric and preset are those of the study that takes them over; searches stay with their files. An
arm is called by its table and its own name, `Table III: row 1`, so that names stay unique. Arms of
several tables that are the same training are one trial, as all arms are (plan.py).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from avsc_core.errors import Fault, UserError, collect_faults, suggest
from avsc_core.resolve import Override
from avsc_core.yaml_file import Located, read_yaml
from studies.study.arms import find_seeds, read_arms
from studies.study.parsing import Settings, list_overrides, parse_study_file
from studies.study.schema import Arm, StudyFile, StudyTable

SHIPPED = Path(__file__).parents[1]  # the study files that are part of the package

# What a file cannot bring along, because the study that takes over its arms has one of each.
NOT_TAKEN_OVER = ("preset", "best-of", "ladder", "tables")


def list_shipped() -> list[str]:
    """List the names of the studies that are part of the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def find_study_file(given: Path, where: str, folder: Path | None = None) -> Path:
    """Find the file of a study given by its path, or by a name without an ending.

    A name is that of a file NAME.yaml in `folder`, else that of a study that ships. Raises
    UserError, at `where`, when there is no such study.
    """
    path = folder / given if folder else given
    if given.suffix or path.is_file():
        return path
    if folder and path.with_suffix(".yaml").is_file():
        return path.with_suffix(".yaml")
    if str(given) not in list_shipped():
        what = f"there is no file and no shipped study '{given}'"
        allowed = suggest(given, list_shipped())
        raise UserError(Fault(where, what, allowed, "give a study file, or a shipped study"))
    return SHIPPED / f"{given}.yaml"


def read_tables(
    file: StudyFile, path: Path, base: Settings, base_sets: list[Override], located: Located
) -> tuple[list[StudyTable], list[Arm]]:
    """Read the tables that the study file at `path` names, and their arms.

    A table's own base settings are put over `base`, and those of the command line (`base_sets`)
    over both. Raises UserError with every fault, those of a table at the lines of its own file.
    """
    faults: list[Fault] = []
    tables: list[StudyTable] = []
    arms: list[Arm] = []
    for position, name in enumerate(file.tables):
        where = located.where("tables", position)
        with collect_faults(faults):
            table_path = find_study_file(Path(name), where, path.parent)
            table, table_arms = _read_table(table_path, base, base_sets)
            if table.title in [other.title for other in tables]:
                faults.append(Fault(where, f"two tables are called '{table.title}'"))
            tables.append(table)
            arms += table_arms
    if faults:
        raise UserError(faults)
    return tables, arms


def _read_table(
    path: Path, base: Settings, base_sets: list[Override]
) -> tuple[StudyTable, list[Arm]]:
    """Read the study file at `path` as a table. Raises UserError with its faults."""
    located = read_yaml(path)
    content = located.data if isinstance(located.data, Mapping) else {}
    faults = list(_check_content(content, located))
    file = parse_study_file(content, located, faults)

    overrides = list_overrides(file.base, located, ("base",))
    faults += find_seeds(overrides)
    arms: list[Arm] = []
    with collect_faults(faults):
        arms = read_arms(file, base.add([*overrides, *base_sets]), located)
    if not arms and not faults:
        faults.append(Fault(located.where(), "no arms to take over", "arms, or an ablation"))
    if faults:
        raise UserError(faults)

    title = file.source or file.name or path.stem
    design = file.ablation.design if file.ablation else None
    named = [replace(arm, name=f"{title}: {arm.name}", table=title) for arm in arms]
    return StudyTable(title, file.question, design, file.published), named


def _check_content(content: Mapping[str, Any], located: Located) -> Iterator[Fault]:
    """Check that the file has nothing that would be lost when its arms are taken over."""
    for key in NOT_TAKEN_OVER:
        if content.get(key):
            what = f"{key} in a study whose arms another study takes over"
            yield Fault(located.where(key), what, todo="leave it out, or run this study itself")
