"""From a study file and the command line to a checked study.

All faults are found before anything starts, each with its line or its flag: parsing.py checks the
types of the parts, checking.py the rules between them, arms.py and search.py turn arms, ablations
and searches into checked ones, tables.py reads the arms of other study files. What the command line
says replaces what the file says. Reading a study loads no torch.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, collect_faults
from avsc_core.resolve import (
    Override,
    list_presets,
    list_settings,
    list_text_keys,
    parse_set,
)
from avsc_core.yaml_file import Located, read_yaml
from studies.study.arms import find_seeds, read_arms
from studies.study.checking import find_conflicts, find_rung_conflicts
from studies.study.parsing import Settings, list_overrides, parse_study_file, resolve_trainable
from studies.study.schema import FIRST_LOOK, Arm, Metric, SearchPart, Study, StudyFile, StudyTable
from studies.study.search import check_metrics, read_search
from studies.study.tables import read_tables

# What `--set` may change besides the base, and of which of these it may change a part alone.
OF_THE_STUDY = ("search", "resources", "seeds", "metric", "select", "retune", "ladder")
WITH_PARTS = ("search", "resources")

# Those of them that are text, which `--set` takes as typed.
TEXT_KEYS = list_text_keys(StudyFile) | list_text_keys(SearchPart, "search.")

# (this study, the study that its base comes from, the place that names the latter)
# -> (key of the best trial, its configuration)
WinnerOf = Callable[[str, str, str], tuple[str, Config]]


class Rung(NamedTuple):
    """A rung of a ladder; without a ladder, the base is the only one."""

    settings: Settings
    config: Config


def refuse_best_of(study: str, source: str, where: str) -> tuple[str, Config]:
    """Stand in for the record where there is no record."""
    raise UserError(Fault(where, f"study {source} is not in the record"))


def read_study(
    path: Path,
    *,
    preset: str | None = None,
    data_given: bool = False,
    sets: Iterable[str] = (),
    trials: int | None = None,
    name: str | None = None,
    cpus: float | None = None,
    gpus: float | None = None,
    winner_of: WinnerOf = refuse_best_of,
) -> Study:
    """Read a study file, put the command line over it, and check the result.

    The preset is the command line's, else the file's, else `paper` with a data set and `demo` with
    the embedded scenes; with `best-of` the base is what `winner_of` returns instead. Raises
    UserError with every fault.
    """
    located = read_yaml(path)
    if not isinstance(located.data, Mapping):
        parts = "question, arms, search, ..."
        raise UserError(Fault(located.where(), "a study file is a mapping", parts))

    # The content: the file with the command line put over it, as typed parts.
    faults: list[Fault] = []
    flags = {"search.trials": trials, "resources.cpus": cpus, "resources.gpus": gpus, "name": name}
    content, base_sets = _apply_command_line(located, flags, sets, faults)
    file = parse_study_file(content, located, faults)

    # The base, or its two rungs with a ladder.
    study_name = file.name or path.stem
    file_preset = preset or file.preset
    start = Settings(file_preset or ("paper" if data_given else "demo"), [])
    best_of: tuple[str, str] | None = None
    rungs: list[Rung] = []
    with collect_faults(faults):
        if file.best_of is not None:
            best_of, start = _read_best_of(
                file.best_of, study_name, bool(file_preset), located, winner_of
            )
        file_base = list_overrides(file.base, located, ("base",))
        overrides = [*file_base, *base_sets]
        faults += find_seeds(overrides)
        preset_place = "--preset" if preset else located.where("preset")
        rungs = _read_rungs(file, start.add(overrides), preset_place, located)

    # What needs no configuration.
    metrics: tuple[Metric, ...] = ()
    with collect_faults(faults):
        metrics = check_metrics(file.metric, located.where("metric"))
    faults += find_conflicts(file, study_name, located)

    # Arms and search, which are laid around the base.
    arms: list[Arm] = []
    tables: list[StudyTable] = []
    if rungs:
        with collect_faults(faults):
            if file.tables:
                tables, arms = read_tables(file, path, start.add(file_base), base_sets, located)
            else:
                arms = read_arms(file, rungs[0].settings, located)
        with collect_faults(faults):
            configs = [rung.config for rung in rungs]
            search = read_search(file, configs, arms, len(metrics), located)

    if faults:
        raise UserError(dict.fromkeys(faults))  # each once, in order
    return Study(
        name=study_name,
        path=path,
        question=file.question,
        source=file.source,
        preset=f"best of {best_of[0]}" if best_of else start.preset,
        best_of=best_of,
        base=rungs[0].config,
        metrics=metrics,
        select=file.select,
        seeds=tuple(file.seeds),
        looks=range(FIRST_LOOK, file.seeds_part.at_most + 1) if file.seeds_part else range(0),
        design=file.ablation.design if file.ablation else None,
        arms=tuple(arms),
        tables=tuple(tables),
        retune=file.retune or 0,
        search=search,
        final=rungs[1].config if file.ladder else None,
        resources=file.resources,
        published=file.published,
        source_lines=located,
    )


def _apply_command_line(
    located: Located, flags: Mapping[str, Any], sets: Iterable[str], faults: list[Fault]
) -> tuple[dict[str, Any], list[Override]]:
    """Put flags and `--set` items over the file's content.

    Returns the content, and those `--set` items that are settings of the base. `located` notes
    what was replaced, so that a fault in it names the flag.
    """
    # Flags come first, so that a `--set` of the same key wins.
    changes = []
    for key, value in flags.items():
        if value is not None:
            changes.append(Override(key, value, f"--{key.rpartition('.')[2]}"))

    base_sets: list[Override] = []
    for item in sets:
        with collect_faults(faults):  # one item's fault does not hide those of the others
            (override,) = parse_set([item], TEXT_KEYS)
            of_study = override.key.split(".")[0] in OF_THE_STUDY
            (changes if of_study else base_sets).append(override)

    content = dict(located.data)
    for change in changes:
        _apply_change(change, content, located, faults)
    return content, base_sets


def _apply_change(
    change: Override, content: dict[str, Any], located: Located, faults: list[Fault]
) -> None:
    """Put one change over the content of a study file, or add its fault to `faults`."""
    section, _, part = change.key.partition(".")
    old = content.get(section)

    if section == "search" and not isinstance(old, Mapping):
        faults.append(Fault(change.where, "this study has no search", todo="leave it out"))
    elif not part:
        content[section] = change.value
        located.over[(section,)] = change.where
    elif section not in WITH_PARTS:
        todo = f"{section}=VALUE"
        faults.append(Fault(change.where, f"{section} has no part '{part}'", todo=todo))
    elif old is None or isinstance(old, Mapping):
        content[section] = {**(old or {}), part: change.value}
        located.over[(section, part)] = change.where
    # Anything else is not a mapping, which parse_study_file reports.


def _read_best_of(
    source: str, study: str, has_preset: bool, located: Located, winner_of: WinnerOf
) -> tuple[tuple[str, str], Settings]:
    """Return (study, key) of the trial that `best-of` names, and its settings. Raises UserError."""
    where = located.where("best-of")
    faults = []
    if has_preset:
        why = "the best trial has its own"
        faults.append(Fault(where, "best-of and a preset", why, "keep one of them"))
    if source == study:
        todo = "another study, or another `name`"
        faults.append(Fault(where, "best-of names this study itself", todo=todo))
    else:
        with collect_faults(faults):
            key, config = winner_of(study, source, where)
    if faults:
        raise UserError(faults)

    # Any preset would do here: every setting of the trial is put over it.
    settings = [Override(name, value, where) for name, value in list_settings(config).items()]
    return (source, key), Settings("paper", settings)


def _read_rungs(file: StudyFile, base: Settings, preset_place: str, located: Located) -> list[Rung]:
    """Resolve the base, or both rungs of a ladder, the cheap one first. Raises UserError."""
    faults: list[Fault] = []
    rungs: list[Rung] = []
    for position, rung in enumerate(file.ladder or [{}]):
        whose = f"rung {position + 1}" if file.ladder else "the base"
        with collect_faults(faults):
            if isinstance(rung, dict):
                overrides = list_overrides(rung, located, ("ladder", position))
                faults += find_seeds(overrides)
                settings = base.add(overrides)
            else:
                _check_preset_rung(file, rung, located.where("ladder", position))
                settings = Settings(rung, base.overrides)
            rungs.append(Rung(settings, resolve_trainable(settings, whose, preset_place)))

    if len(rungs) == 2:
        cheap, full = rungs
        faults += find_rung_conflicts(cheap.config, full.config, located.where("ladder"))
    if faults:
        raise UserError(faults)
    return rungs


def _check_preset_rung(file: StudyFile, rung: Any, where: str) -> None:
    """Check a rung that is not a mapping of settings: it names a preset. Raises UserError."""
    if rung not in list_presets():
        allowed = f"{', '.join(list_presets())}, or settings"
        raise UserError(Fault(where, f"{rung!r} is not a rung", allowed))
    if file.best_of:
        why = "the best trial has a value for every setting"
        todo = "settings as rungs, such as {training.epochs: 5}"
        raise UserError(Fault(where, f"preset {rung} as a rung", why, todo))
