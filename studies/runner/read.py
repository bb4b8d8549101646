"""A study file -> a checked study: every fault with its line, all of them at once, before anything starts.

What the command line says goes over what the file says. Reading a study loads no torch.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from avsc_core.config import Config, Override, flatten, preset_names, resolve
from avsc_core.errors import Fault, UserError, gathered, near
from avsc_core.yaml_file import Located, Trail, read_value, read_yaml
from search_spaces.space import SAMPLER_NAMES, build_space
from studies.runner.schema import (
    SEARCH_ARM,
    Arm,
    ArmPart,
    FilePart,
    Published,
    Resources,
    Search,
    SearchPart,
    Study,
    StudyFile,
)

SCHEDULER_NAMES = ("none", "asha", "hyperband", "median")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


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
) -> Study:
    """Read and check a study file with what the command line puts over it. Raises UserError with every fault.

    The preset is the command line's, else the file's, else `paper` with a data set and `demo` with the embedded scenes.
    """
    located = read_yaml(path)
    faults: list[Fault] = []
    if not isinstance(located.data, Mapping):
        raise UserError(Fault(located.where(), "a study file is a mapping", "question, arms, search, ..."))
    flags = {"search.trials": trials, "resources.cpus": cpus, "resources.gpus": gpus, "name": name}
    data, origin, config_sets = _over(located.data, flags, sets, faults)
    file = _typed(data, located, origin, faults)
    if file is None:
        raise UserError(faults)
    chosen = preset or file.preset or ("paper" if data_given else "demo")
    base_overrides = [*_overrides(file.base, located, ("base",)), *config_sets]
    base = None
    with gathered(faults):
        base = resolve(chosen, base_overrides, "--preset" if preset else located.where("preset"))
    _rules(file, located, origin, faults)
    arms, search = [], None
    if base is not None:
        for position, part in enumerate(file.arms):
            with gathered(faults):
                overrides = [*base_overrides, *_overrides(part.set, located, ("arms", position, "set"))]
                arms.append(Arm(part.name, resolve(chosen, overrides), part.published))
        with gathered(faults):
            search = _search(file.search, base, located)
    if faults or base is None:
        raise UserError(sorted(set(faults), key=faults.index))
    return Study(
        name=file.name or path.stem,
        path=path,
        question=file.question,
        source=file.source,
        preset=chosen,
        base=base,
        metric=file.metric,
        seeds=tuple(file.seeds),
        arms=tuple(arms),
        search=search,
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
        elif key.split(".")[0] in ("search", "resources", "seeds", "metric"):
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


def _typed(data: dict[str, Any], located: Located, origin: Mapping[str, str], faults: list[Fault]) -> StudyFile | None:
    """The file as typed parts, or None and its faults."""
    try:
        return StudyFile.model_validate(data)
    except ValidationError as error:
        for item in error.errors():
            trail: Trail = tuple(item["loc"])
            key = ".".join(map(str, trail))
            where = origin.get(key) or located.where(*trail)
            if item["type"] == "extra_forbidden":
                allowed = _fields_at(trail[:-1])
                faults.append(Fault(where, f"unknown key '{trail[-1]}'", near(trail[-1], allowed)))
            elif item["type"] == "missing":
                faults.append(Fault(where, f"'{trail[-1]}' is missing"))
            else:
                message = item["msg"][0].lower() + item["msg"][1:]
                faults.append(Fault(where, f"{key}: {item['input']!r} is not allowed", message))
    return None


def _fields_at(trail: Trail) -> list[str]:
    """The keys that a part of the file may have."""
    parts: dict[Trail, type[FilePart]] = {(): StudyFile, ("search",): SearchPart, ("resources",): Resources}
    parts[("arms",)] = ArmPart
    parts[("arms", "published")] = Published
    names = tuple(part for part in trail if isinstance(part, str))
    return list(parts[names].model_fields)


def _rules(file: StudyFile, located: Located, origin: Mapping[str, str], faults: list[Fault]) -> None:
    """What no single field can know."""
    name = file.name or Path(located.name).stem
    if not NAME.fullmatch(name):
        where = origin.get("name") or located.where("name")
        faults.append(Fault(where, f"'{name}' is no study name", "letters, digits, - and _"))
    if file.preset and file.preset not in preset_names():
        where = located.where("preset")
        faults.append(Fault(where, f"unknown preset '{file.preset}'", near(file.preset, preset_names())))
    if not file.arms and file.search is None:
        faults.append(Fault(located.where(), "nothing to run", "arms, a search, or both"))
    seen: set[str] = set()
    for position, arm in enumerate(file.arms):
        where = located.where("arms", position, "name")
        if arm.name in seen:
            faults.append(Fault(where, f"two arms are called '{arm.name}'", todo="rename one"))
        if arm.name == SEARCH_ARM:
            faults.append(Fault(where, f"'{SEARCH_ARM}' names the search's trials", todo="rename the arm"))
        seen.add(arm.name)
    places = [("base",), *(("arms", position, "set") for position in range(len(file.arms)))]
    for trail, settings in zip(places, [file.base, *(arm.set for arm in file.arms)], strict=True):
        if "seed" in settings:
            faults.append(
                Fault(
                    located.where(*trail, "seed"),
                    "a seed among the settings",
                    "every arm runs with the study's",
                    "use seeds: [...]",
                )
            )
    if len(set(file.seeds)) < len(file.seeds):
        faults.append(Fault(located.where("seeds"), "a seed stands twice"))
    gpus = file.resources.gpus
    if gpus > 1 and gpus != int(gpus):
        where = origin.get("resources.gpus") or located.where("resources", "gpus")
        faults.append(Fault(where, f"{gpus:g} GPUs per trial", "a share of one GPU, or whole ones"))


def _search(part: SearchPart | None, base: Config, located: Located) -> Search | None:
    """The checked search. Raises UserError with every fault."""
    if part is None:
        return None
    faults: list[Fault] = []
    for key, names in (("sampler", SAMPLER_NAMES), ("scheduler", SCHEDULER_NAMES)):
        value = getattr(part, key)
        if value not in names:
            faults.append(Fault(located.where("search", key), f"unknown {key} '{value}'", near(value, names)))
    space = None
    with gathered(faults):
        space = build_space(part.space, base, lambda key: located.where("search", "space", key))
    if faults or space is None:
        raise UserError(faults)
    settings = part.model_dump(exclude={"space"})
    return Search(space=space, **settings)


def _overrides(values: Mapping[str, Any], located: Located, trail: Trail) -> list[Override]:
    """Nested or dotted settings of the file as overrides with their lines."""
    result = []
    for name, value in values.items():
        parts = flatten({name: value})
        result += [Override(key, each, _line(located, trail, name, key)) for key, each in parts]
    return result


def _line(located: Located, trail: Trail, name: str, key: str) -> str:
    rest = key.removeprefix(name).strip(".")
    return located.where(*trail, name, *(rest.split(".") if rest else ()))
