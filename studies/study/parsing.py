"""A study file's content -> typed parts, its settings -> configurations; every finding a fault with its line."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, suggest
from avsc_core.resolve import Override, flatten, resolve
from avsc_core.yaml_file import Located, Trail
from search_spaces.space import reset_inactive
from studies.study.schema import (
    AblationPart,
    ArmPart,
    FilePart,
    PublishedFigures,
    Resources,
    SearchPart,
    StudyFile,
)

Settings = tuple[str, list[Override]]  # a preset and what is put over it
TO_LEARN = (
    "loss_weights.",
    "alignment.enabled",
    "modality",
)  # settings that can leave nothing to learn
OUR_WORDS = {
    "model_type": "a mapping",
    "dict_type": "a mapping",
}  # where pydantic names its own types

PARTS: dict[Trail, type[FilePart]] = {
    (): StudyFile,
    ("search",): SearchPart,
    ("resources",): Resources,
    ("arms",): ArmPart,
    ("arms", "published"): PublishedFigures,
    ("ablation",): AblationPart,
    ("ablation", "published"): PublishedFigures,
}


def parse_study_file(
    data: Mapping[str, Any], located: Located, faults: list[Fault]
) -> StudyFile | None:
    """The file as typed parts, or None and its faults."""
    try:
        return StudyFile.model_validate(data)
    except ValidationError as error:
        for item in error.errors():
            trail: Trail = tuple(item["loc"])
            where = located.where(*trail)
            if item["type"] == "extra_forbidden":
                faults.append(
                    Fault(
                        where,
                        f"unknown key '{trail[-1]}'",
                        suggest(trail[-1], _fields_at(trail[:-1])),
                    )
                )
            elif item["type"] == "missing":
                faults.append(Fault(where, f"'{trail[-1]}' is missing"))
            elif trail[-1] == "[key]":
                faults.append(make_name_fault(where, item["input"]))
            else:
                what = f"{'.'.join(map(str, trail))}: {item['input']!r} is not allowed"
                message = OUR_WORDS.get(item["type"]) or item["msg"][0].lower() + item["msg"][1:]
                faults.append(Fault(where, what, message))
    return None


def make_name_fault(where: str, key: Any) -> Fault:
    """Of a key that YAML does not read as text."""
    return Fault(
        where,
        f"{key!r} is no name",
        "YAML takes on, off, yes, no and numbers for values",
        "put it in quotes",
    )


def resolve_trainable(settings: Settings, whose: str, where: str = "--preset") -> Config:
    """The configuration of some settings. Raises UserError, also when it leaves nothing to learn."""
    config = resolve(*settings, where)
    try:
        reset_inactive(config)
    except ValueError:
        place = next(each.where for each in reversed(settings[1]) if each.key.startswith(TO_LEARN))
        raise UserError(
            Fault(place, f"{whose} has nothing to learn", "a loss weight above 0")
        ) from None
    return config


def list_overrides(values: Mapping[str, Any], located: Located, trail: Trail) -> list[Override]:
    """Nested or dotted settings of the file as overrides with their lines."""
    result = []
    for name, value in values.items():
        result += [
            Override(key, each, _line(located, trail, str(name), key))
            for key, each in flatten({name: value})
        ]
    return result


def _fields_at(trail: Trail) -> list[str]:
    """The keys that a part of the file may have, by their names in the file."""
    names = tuple(part for part in trail if isinstance(part, str))
    part = PARTS.get(names) or PARTS[names[:2]]  # figures by the name of their arm
    return [info.alias or name for name, info in part.model_fields.items()]


def _line(located: Located, trail: Trail, name: str, key: str) -> str:
    rest = key.removeprefix(name).strip(".")
    return located.where(*trail, name, *(rest.split(".") if rest else ()))
