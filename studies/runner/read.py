"""A study file -> a checked study: every fault with its line, all of them at once, before anything starts.

What the command line says goes over what the file says. Reading a study loads no torch.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from avsc_core.config import Config, Override, flatten, preset_names, resolve
from avsc_core.errors import Fault, UserError, gathered, near
from avsc_core.yaml_file import Located, read_value, read_yaml
from search_spaces.space import canonical
from studies.runner.ablation import cells
from studies.runner.plan import is_search
from studies.runner.schema import Arm, Metric, Published, Study, StudyFile
from studies.runner.searching import metrics_of, read_search
from studies.runner.typed import overrides_of, typed

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# what `--set` may change besides the base
OF_THE_STUDY = ("search", "resources", "seeds", "metric", "retune", "ladder")
SAME_CLIPS = ("seed", "split.")  # settings no arm may have: all are trained and validated on the same clips

Settings = tuple[str, list[Override]]  # a preset and what is put over it
# (this study, the study its base comes from) -> (key of the trial, its configuration)
WinnerOf = Callable[[str, str], tuple[str, Config]]


def no_record(own: str, source: str) -> tuple[str, Config]:
    """Stands for the record where there is none."""
    raise UserError(Fault("best-of", f"study {source} is not in the record"))


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
    winner_of: WinnerOf = no_record,
) -> Study:
    """Read and check a study file with what the command line puts over it. Raises UserError with every fault.

    The preset is the command line's, else the file's, else `paper` with a data set and `demo` with the embedded scenes.
    With `best-of` the base is what `winner_of` says instead.
    """
    located = read_yaml(path)
    faults: list[Fault] = []
    if not isinstance(located.data, Mapping):
        raise UserError(Fault(located.where(), "a study file is a mapping", "question, arms, search, ..."))
    flags = {"search.trials": trials, "resources.cpus": cpus, "resources.gpus": gpus, "name": name}
    data, origin, config_sets = _over(located.data, flags, sets, faults)
    file = typed(data, located, origin, faults)
    if file is None:
        raise UserError(faults)
    own_name, best_of, start = file.name or path.stem, None, []
    chosen = preset or file.preset or ("paper" if data_given else "demo")
    if file.best_of is not None:
        where = located.where("best-of")
        if preset or file.preset:
            faults.append(Fault(where, "best-of and a preset", "the best trial has its own", "keep one of them"))
        with gathered(faults):
            key, config = winner_of(own_name, file.best_of)
            best_of, start = (file.best_of, key), [Override(*each, where) for each in flatten(config.model_dump())]
            chosen = "paper"  # every setting of which is put over
    base_overrides = [*start, *overrides_of(file.base, located, ("base",)), *config_sets]
    base, search, final, arms = None, None, None, list[Arm]()
    metrics: tuple[Metric, ...] = ()
    rungs: list[Settings] = [(chosen, base_overrides)]
    if file.ladder:
        with gathered(faults):
            rungs = _rungs(file.ladder, chosen, base_overrides, located)
    with gathered(faults):
        base = resolve(*rungs[0], "--preset" if preset else located.where("preset"))
        final = resolve(*rungs[1]) if file.ladder else None
    with gathered(faults):
        metrics = metrics_of(file.metric, origin.get("metric") or located.where("metric"))
    _rules(file, own_name, located, origin, faults)
    if base is not None:
        arms = _arms(file, rungs[0], located, faults)
        if file.search:
            with gathered(faults):
                search = read_search(file.search, base, len(metrics), bool(file.retune), located)
    if faults or base is None:
        raise UserError(sorted(set(faults), key=faults.index))
    return Study(
        name=own_name,
        path=path,
        question=file.question,
        source=file.source,
        preset=f"best of {best_of[0]}" if best_of else chosen,
        best_of=best_of,
        base=canonical(base),
        metrics=metrics,
        seeds=tuple(file.seeds),
        design=file.ablation.design if file.ablation else None,
        arms=tuple(arms),
        retune=file.retune or 0,
        search=search,
        final=final and canonical(final),
        resources=file.resources,
    )


def _over(
    content: Mapping[str, Any], flags: Mapping[str, Any], sets: Iterable[str], faults: list[Fault]
) -> tuple[dict[str, Any], dict[str, str], list[Override]]:
    """The file's content with flags and study-level `--set` items put over it, and the `--set` items of the base."""
    data = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    origin, config_sets = {}, []
    values = [(key, value, f"--{key.rsplit('.', 1)[-1]}") for key, value in flags.items() if value is not None]
    for item in sets:
        key, separator, text = item.partition("=")
        if not separator:
            faults.append(Fault("--set", f"'{item}' has no '='", "key=value"))
        elif key.split(".")[0] in OF_THE_STUDY:
            values.append((key, read_value(text), "--set"))
        else:
            config_sets.append(Override(key.strip(), read_value(text), "--set"))
    for key, value, where in values:
        section, _, name = key.partition(".")
        if section == "search" and not isinstance(data.get("search"), dict):
            faults.append(Fault(where, "this study has no search", todo="leave it out"))
        elif name:
            data.setdefault(section, {})[name] = value
        else:
            data[section] = value
        origin[key] = where
    return data, origin, config_sets


def _arms(file: StudyFile, base: Settings, located: Located, faults: list[Fault]) -> list[Arm]:
    """The rows of the file and those of its ablation, resolved over the base."""
    Row = tuple[str, list[Override], Published | None, Mapping[str, str], str]
    rows: list[Row] = [
        (part.name, overrides_of(part.set, located, ("arms", position, "set")), part.published, {}, part.note)
        for position, part in enumerate(file.arms)
    ]
    if file.ablation:
        with gathered(faults):
            for cell in cells(file.ablation, located):
                rows.append((cell.name, cell.overrides, file.ablation.published.get(cell.name), cell.levels, ""))
    arms = []
    for name, overrides, published, levels, note in rows:
        own = [override for override in overrides if override.key.startswith(SAME_CLIPS)]
        faults += [_of_all_arms(override) for override in own]
        with gathered(faults):
            config = resolve(base[0], [*base[1], *(override for override in overrides if override not in own)])
            settled = tuple(override.key for override in overrides)
            try:
                arms.append(Arm(name, canonical(config), published, levels, settled, note))
            except ValidationError:
                where = overrides[0].where if overrides else located.where()
                faults.append(Fault(where, f"arm '{name}' has nothing to learn", "a loss weight above 0"))
    return arms


def _of_all_arms(override: Override) -> Fault:
    if override.key == "seed":
        return Fault(override.where, "a seed among the settings", "every arm runs with the study's", "use seeds: [...]")
    return Fault(override.where, f"{override.key} in an arm", "all arms are validated on the same clips", "in the base")


def _rungs(ladder: list[Any], preset: str, overrides: list[Override], located: Located) -> list[Settings]:
    """Both rungs of a ladder, each a preset or settings over the base. Raises UserError."""
    faults: list[Fault] = []
    rungs: list[Settings] = []
    for position, rung in enumerate(ladder):
        where = located.where("ladder", position)
        if isinstance(rung, str) and rung in preset_names():
            rungs.append((rung, overrides))
        elif isinstance(rung, dict):
            rungs.append((preset, [*overrides, *overrides_of(rung, located, ("ladder", position))]))
        else:
            faults.append(Fault(where, f"{rung!r} is no rung", f"{', '.join(preset_names())}, or settings"))
    with gathered(faults):
        if not faults and len({resolve(*rung).split for rung in rungs}) > 1:
            faults.append(Fault(located.where("ladder"), "the rungs are validated on different clips", "one split"))
    if faults:
        raise UserError(faults)
    return rungs


def _rules(file: StudyFile, name: str, located: Located, origin: Mapping[str, str], faults: list[Fault]) -> None:
    """What no single field can know."""
    if not NAME.fullmatch(name):
        where = origin.get("name") or located.where("name")
        faults.append(Fault(where, f"'{name}' is no study name", "letters, digits, - and _"))
    if file.preset and file.preset not in preset_names():
        where = located.where("preset")
        faults.append(Fault(where, f"unknown preset '{file.preset}'", near(file.preset, preset_names())))
    if not file.arms and file.ablation is None and file.search is None:
        faults.append(Fault(located.where(), "nothing to run", "arms, an ablation, or a search"))
    seen: set[str] = set()
    for position, arm in enumerate(file.arms):
        where = located.where("arms", position, "name")
        if arm.name in seen:
            faults.append(Fault(where, f"two arms are called '{arm.name}'", todo="rename one"))
        if is_search(arm.name):
            faults.append(Fault(where, f"'{arm.name}' names the search's trials", todo="rename the arm"))
        seen.add(arm.name)
    if "seed" in file.base:
        faults.append(_of_all_arms(Override("seed", None, located.where("base", "seed"))))
    if len(set(file.seeds)) < len(file.seeds):
        faults.append(Fault(located.where("seeds"), "a seed stands twice"))
    if file.retune and (file.search is None or not (file.arms or file.ablation)):
        what, need = "retune gives every arm a search of its own", "arms or an ablation, and search: {space: ...}"
        faults.append(Fault(located.where("retune"), what, need))
    if file.ladder and file.search is None:
        faults.append(Fault(located.where("ladder"), "a ladder without a search", "search: {space: ...}"))
    if file.ladder and (file.arms or file.ablation):
        what, todo = "a ladder with arms of its own", "put them into search.first, or into another study"
        faults.append(Fault(located.where("ladder"), what, "it compares what its search finds", todo))
    gpus = file.resources.gpus
    if gpus > 1 and gpus != int(gpus):
        where = origin.get("resources.gpus") or located.where("resources", "gpus")
        faults.append(Fault(where, f"{gpus:g} GPUs per trial", "a share of one GPU, or whole ones"))
