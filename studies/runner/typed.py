"""A study file's content -> typed parts; pydantic's findings become faults with their line and the keys allowed."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from avsc_core.config import Override, flatten
from avsc_core.errors import Fault, near
from avsc_core.yaml_file import Located, Trail
from studies.runner.schema import AblationPart, ArmPart, FilePart, Published, Resources, SearchPart, StudyFile

PARTS: dict[Trail, type[FilePart]] = {
    (): StudyFile,
    ("search",): SearchPart,
    ("resources",): Resources,
    ("arms",): ArmPart,
    ("arms", "published"): Published,
    ("ablation",): AblationPart,
    ("ablation", "published"): Published,
}


def typed(
    data: Mapping[str, Any], located: Located, origin: Mapping[str, str], faults: list[Fault]
) -> StudyFile | None:
    """The file as typed parts, or None and its faults. `origin` has the places of what a command line put over it."""
    try:
        return StudyFile.model_validate(data)
    except ValidationError as error:
        for item in error.errors():
            trail: Trail = tuple(item["loc"])
            key = ".".join(map(str, trail))
            where = origin.get(key) or located.where(*trail)
            if item["type"] == "extra_forbidden":
                faults.append(Fault(where, f"unknown key '{trail[-1]}'", near(trail[-1], _fields_at(trail[:-1]))))
            elif item["type"] == "missing":
                faults.append(Fault(where, f"'{trail[-1]}' is missing"))
            else:
                message = item["msg"][0].lower() + item["msg"][1:]
                faults.append(Fault(where, f"{key}: {item['input']!r} is not allowed", message))
    return None


def overrides_of(values: Mapping[str, Any], located: Located, trail: Trail) -> list[Override]:
    """Nested or dotted settings of the file as overrides with their lines."""
    result = []
    for name, value in values.items():
        result += [Override(key, each, _line(located, trail, str(name), key)) for key, each in flatten({name: value})]
    return result


def _fields_at(trail: Trail) -> list[str]:
    """The keys that a part of the file may have, by their names in the file."""
    names = tuple(part for part in trail if isinstance(part, str))
    part = PARTS.get(names) or PARTS[names[:2]]  # figures by the name of their arm
    return [info.alias or name for name, info in part.model_fields.items()]


def _line(located: Located, trail: Trail, name: str, key: str) -> str:
    rest = key.removeprefix(name).strip(".")
    return located.where(*trail, name, *(rest.split(".") if rest else ()))
