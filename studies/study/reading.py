"""A study file -> a checked study: every fault with its line, all of them at once, before anything starts.

What the command line says goes over what the file says. Reading a study loads no torch.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, collect_faults, suggest
from avsc_core.resolve import NOT_IN_KEY, Override, flatten, list_presets
from avsc_core.yaml_file import Located, read_value, read_yaml
from search_spaces.space import reset_inactive
from studies.study.arms import make_setting_fault, read_arms
from studies.study.parsing import Settings, list_overrides, parse_study_file, resolve_trainable
from studies.study.schema import Arm, Metric, Study, StudyFile
from studies.study.search import check_metrics, read_search

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# what `--set` may change besides the base
OF_THE_STUDY = ("search", "resources", "seeds", "metric", "retune", "ladder")
WITH_PARTS = ("search", "resources")  # of these a part alone

# (this study, the study its base comes from) -> (key of the trial, its configuration)
WinnerOf = Callable[[str, str], tuple[str, Config]]


def refuse_best_of(own: str, source: str) -> tuple[str, Config]:
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
    winner_of: WinnerOf = refuse_best_of,
) -> Study:
    """Read and check a study file with what the command line puts over it. Raises UserError with every fault.

    The preset is the command line's, else the file's, else `paper` with a data set and `demo` with the embedded scenes.
    With `best-of` the base is what `winner_of` says instead.
    """
    located = read_yaml(path)
    faults: list[Fault] = []
    if not isinstance(located.data, Mapping):
        raise UserError(
            Fault(located.where(), "a study file is a mapping", "question, arms, search, ...")
        )
    flags = {"search.trials": trials, "resources.cpus": cpus, "resources.gpus": gpus, "name": name}
    data, config_sets = _over(located, flags, sets, faults)
    file = parse_study_file(data, located, faults)
    if file is None:
        raise UserError(faults)
    own_name = file.name or path.stem
    start: Settings = (preset or file.preset or ("paper" if data_given else "demo"), [])
    best_of, base, final, search, arms = None, None, None, None, list[Arm]()
    metrics: tuple[Metric, ...] = ()
    with collect_faults(faults):
        if file.best_of is not None:
            best_of, start = _winner(
                file.best_of, own_name, bool(preset or file.preset), located, winner_of
            )
        written = [*list_overrides(file.base, located, ("base",)), *config_sets]
        faults += [make_setting_fault(override) for override in written if override.key == "seed"]
        settings = (start[0], [*start[1], *written])
        rungs = _rungs(file, settings, "--preset" if preset else located.where("preset"), located)
        base, final = rungs[0][1], rungs[1][1] if file.ladder else None
    with collect_faults(faults):
        metrics = check_metrics(file.metric, located.where("metric"))
    _rules(file, own_name, located, faults)
    if base is not None:
        with collect_faults(faults):
            arms = read_arms(file, rungs[0][0], located)
        if file.search:
            around = [
                *(arms if file.retune else ()),
                *([Arm("the upper rung", final)] if final else ()),
            ]
            with collect_faults(faults):
                search = read_search(
                    file.search, base, around, len(metrics), bool(file.retune), located
                )
    if faults or base is None:
        raise UserError(dict.fromkeys(faults))
    return Study(
        name=own_name,
        path=path,
        question=file.question,
        source=file.source,
        preset=f"best of {best_of[0]}" if best_of else start[0],
        best_of=best_of,
        base=base,
        metrics=metrics,
        seeds=tuple(file.seeds),
        design=file.ablation.design if file.ablation else None,
        arms=tuple(arms),
        retune=file.retune or 0,
        search=search,
        final=final,
        resources=file.resources,
    )


def _over(
    located: Located, flags: Mapping[str, Any], sets: Iterable[str], faults: list[Fault]
) -> tuple[dict[str, Any], list[Override]]:
    """The file's content with flags and study-level `--set` items put over it, and the `--set` items of the base."""
    data = {
        key: dict(value) if isinstance(value, Mapping) else value
        for key, value in located.data.items()
    }
    config_sets = []
    values = [
        (key, value, f"--{key.rsplit('.', 1)[-1]}")
        for key, value in flags.items()
        if value is not None
    ]
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
        elif not name:
            data[section] = value
            located.over[(section,)] = where
        elif section not in WITH_PARTS:
            faults.append(Fault(where, f"{section} has no part '{name}'", todo=f"{section}=VALUE"))
        elif data.get(section) is None or isinstance(
            data[section], dict
        ):  # else `typed` says what is wrong with it
            data[section] = {**(data.get(section) or {}), name: value}
            located.over[(section, name)] = where
    return data, config_sets


def _winner(
    source: str, own: str, preset: bool, located: Located, winner_of: WinnerOf
) -> tuple[tuple[str, str], Settings]:
    """The trial that `best-of` names, and its settings. Raises UserError."""
    where, faults = located.where("best-of"), list[Fault]()
    if preset:
        faults.append(
            Fault(where, "best-of and a preset", "the best trial has its own", "keep one of them")
        )
    if source == own:
        faults.append(
            Fault(where, "best-of names this study itself", todo="another study, or another `name`")
        )
    else:
        with collect_faults(faults):
            key, config = winner_of(own, source)
    if faults:
        raise UserError(faults)
    # every setting of preset paper is put over, so that any would do
    return (source, key), (
        "paper",
        [Override(*each, where) for each in flatten(config.model_dump())],
    )


def _rungs(
    file: StudyFile, base: Settings, where: str, located: Located
) -> list[tuple[Settings, Config]]:
    """The base, or both rungs of a ladder: presets, or settings over the base. Raises UserError."""
    faults: list[Fault] = []
    made: list[tuple[Settings, Config]] = []
    for position, rung in enumerate(file.ladder or [{}]):
        place = located.where("ladder", position)
        with collect_faults(faults):
            if isinstance(rung, dict):
                own = list_overrides(rung, located, ("ladder", position))
                faults += [
                    make_setting_fault(override) for override in own if override.key == "seed"
                ]
                settings = (base[0], [*base[1], *own])
            elif rung not in list_presets():
                raise UserError(
                    Fault(
                        place, f"{rung!r} is no rung", f"{', '.join(list_presets())}, or settings"
                    )
                )
            elif file.best_of:
                what, why = (
                    f"preset {rung} as a rung",
                    "every setting of the best trial goes over it",
                )
                raise UserError(
                    Fault(place, what, why, "settings as rungs, such as {training.epochs: 5}")
                )
            else:
                settings = (rung, base[1])
            made.append(
                (
                    settings,
                    resolve_trainable(
                        settings, f"rung {position + 1}" if file.ladder else "the base", where
                    ),
                )
            )
    if len(made) == 2:
        faults += _misfits(made[0][1], made[1][1], located.where("ladder"))
    if faults:
        raise UserError(faults)
    return made


def _misfits(lower: Config, upper: Config, where: str) -> list[Fault]:
    """What keeps two configurations from being rungs: two trainings, of the same task."""
    faults = []
    if lower.split != upper.split:
        faults.append(Fault(where, "the rungs are validated on different clips", "one split"))
    if (lower.audio.classes, lower.visual.classes) != (upper.audio.classes, upper.visual.classes):
        faults.append(
            Fault(
                where,
                "the rungs have different classes",
                "audio.classes and visual.classes of the data",
            )
        )
    if reset_inactive(lower).model_dump(exclude=NOT_IN_KEY) == reset_inactive(upper).model_dump(
        exclude=NOT_IN_KEY
    ):
        faults.append(
            Fault(where, "both rungs are the same training", "a cheap one and a full one")
        )
    return faults


def _rules(file: StudyFile, name: str, located: Located, faults: list[Fault]) -> None:
    """What no single field can know."""
    if not NAME.fullmatch(name):
        where = located.where("name")
        faults.append(
            Fault(where, f"'{name}' is no study name", "letters, digits, - and _, at most 64")
        )
    if file.preset and file.preset not in list_presets():
        where = located.where("preset")
        faults.append(
            Fault(where, f"unknown preset '{file.preset}'", suggest(file.preset, list_presets()))
        )
    if not file.arms and file.ablation is None and file.search is None:
        faults.append(Fault(located.where(), "nothing to run", "arms, an ablation, or a search"))
    if len(set(file.seeds)) < len(file.seeds):
        faults.append(Fault(located.where("seeds"), "a seed stands twice"))
    if file.retune and (file.search is None or not (file.arms or file.ablation)):
        what, need = (
            "retune gives every arm a search of its own",
            "arms or an ablation, and search: {space: ...}",
        )
        faults.append(Fault(located.where("retune"), what, need))
    if file.ladder and file.search is None:
        faults.append(
            Fault(located.where("ladder"), "a ladder without a search", "search: {space: ...}")
        )
    if file.ladder and (file.arms or file.ablation):
        what, todo = (
            "a ladder with arms of its own",
            "put them into search.first, or into another study",
        )
        faults.append(
            Fault(located.where("ladder"), what, "it compares what its search finds", todo)
        )
    if file.search and file.search.warm_start == name:
        where = located.where("search", "warm_start")
        faults.append(
            Fault(
                where,
                "warm_start names this study itself",
                todo="its own trials are told of anyway",
            )
        )
    if file.search and not file.ladder and "finalists" in file.search.model_fields_set:
        where = located.where("search", "finalists")
        faults.append(
            Fault(where, "finalists without a ladder", "ladder: [..., ...]", "leave it out")
        )
    gpus = file.resources.gpus
    if gpus > 1 and gpus != int(gpus):
        where = located.where("resources", "gpus")
        faults.append(Fault(where, f"{gpus:g} GPUs per trial", "a share of one GPU, or whole ones"))
