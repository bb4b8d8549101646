"""From a study file's content to typed parts, and from its settings to configurations.

`parse_study_file` checks the types of all parts. `list_overrides` gives every setting the line
where it is written, and `resolve_trainable` puts such settings over a preset. Every mistake becomes
a fault with its line.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any, NamedTuple

from pydantic import ValidationError

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, suggest
from avsc_core.resolve import Override, flatten, resolve
from avsc_core.yaml_file import Located, Trail
from search_spaces.inactive import reset_inactive
from studies.study.schema import (
    AblationPart,
    ArmPart,
    FilePart,
    PublishedFigures,
    Resources,
    SearchPart,
    SeedsPart,
    StudyFile,
)

# Settings that can leave nothing to learn.
LEARNING_SETTINGS = ("loss_weights.", "alignment.enabled", "modality")

# Our words where pydantic names its own types.
PLAIN_MESSAGES = {"model_type": "a mapping", "dict_type": "a mapping"}

# Where each part stands in the file, without list positions.
PARTS: dict[Trail, type[FilePart]] = {
    (): StudyFile,
    ("search",): SearchPart,
    ("seeds",): SeedsPart,
    ("resources",): Resources,
    ("arms",): ArmPart,
    ("arms", "published"): PublishedFigures,
    ("ablation",): AblationPart,
    ("ablation", "published"): PublishedFigures,
    ("published",): PublishedFigures,
}


class Settings(NamedTuple):
    """A configuration before it is resolved: a preset, and what is put over it."""

    preset: str
    overrides: list[Override]

    def add(self, overrides: Iterable[Override]) -> "Settings":
        """Return these settings with more overrides put over them."""
        return Settings(self.preset, [*self.overrides, *overrides])


def parse_study_file(
    content: Mapping[str, Any], located: Located, faults: list[Fault]
) -> StudyFile:
    """Return the file as typed parts; faults of unknown keys are added to `faults`.

    Raises UserError with these and its own faults when a part has a wrong type.
    """
    try:
        return StudyFile.model_validate(content)
    except ValidationError as error:
        findings = error.errors()

    unknown = [finding["loc"] for finding in findings if finding["type"] == "extra_forbidden"]
    found = [_explain_finding(finding, located) for finding in findings]
    faults += dict.fromkeys(found)
    if len(unknown) < len(findings):
        raise UserError(faults)

    # A misspelt key hides no fault of the others: they are read as if it was not there.
    known = deepcopy(dict(content))
    for trail in unknown:
        _remove(known, trail)
    return parse_study_file(known, located, faults)


def make_name_fault(where: str, key: Any) -> Fault:
    """Return the fault of a key that YAML does not read as text."""
    why = "YAML takes true, false, null and numbers for values"
    return Fault(where, f"{key!r} is not a name", why, "put it in quotes")


def resolve_trainable(settings: Settings, whose: str, where: str = "--preset") -> Config:
    """Return the configuration of some settings, those of `whose` (an arm, a rung, the base).

    Raises UserError, also when the configuration leaves nothing to learn.
    """
    config = resolve(settings.preset, settings.overrides, where)
    try:
        reset_inactive(config)
    except ValueError:
        place = _find_last_learning_setting(settings.overrides)
        what = f"{whose} has nothing to learn"
        raise UserError(Fault(place, what, "a loss weight above 0")) from None
    return config


def list_overrides(values: Mapping[str, Any], located: Located, trail: Trail) -> list[Override]:
    """List the nested or dotted settings that stand at `trail`, each with its line."""
    overrides = []
    for name, value in values.items():
        for key, leaf in flatten({name: value}):
            # `a.b: {c: 1}` is the key a.b.c, whose trail in the file is (..., "a.b", "c").
            nested = key.removeprefix(str(name)).strip(".")
            parts = nested.split(".") if nested else []
            overrides.append(Override(key, leaf, located.where(*trail, str(name), *parts)))
    return overrides


def _explain_finding(finding: Any, located: Located) -> Fault:
    """Return one of pydantic's findings as a fault in our words."""
    trail: Trail = tuple(finding["loc"])
    where = located.where(*trail)
    key = trail[-1]

    if finding["type"] == "extra_forbidden":
        return Fault(where, f"unknown key '{key}'", suggest(key, _list_keys_at(trail[:-1])))
    if finding["type"] == "missing":
        return Fault(where, f"'{key}' is missing")
    if key == "[key]":
        return make_name_fault(where, finding["input"])

    what = f"{'.'.join(map(str, trail))}: {finding['input']!r} is not allowed"
    message = finding["msg"][0].lower() + finding["msg"][1:]
    return Fault(where, what, PLAIN_MESSAGES.get(finding["type"], message))


def _remove(content: Any, trail: Trail) -> None:
    """Remove what stands at a trail, if it is still there."""
    *parents, key = trail
    for part in parents:
        content = content[part]
    content.pop(key, None)


def _list_keys_at(trail: Trail) -> list[str]:
    """List the keys that a part of the file may have, by their names in the file."""
    names = tuple(part for part in trail if isinstance(part, str))
    if names not in PARTS:
        names = names[:-1]  # published figures, which stand under the name of their system
    part = PARTS[names]
    return [info.alias or name for name, info in part.model_fields.items()]


def _find_last_learning_setting(overrides: list[Override]) -> str:
    """Return the place of the last override that can have left nothing to learn."""
    return [item.where for item in overrides if item.key.startswith(LEARNING_SETTINGS)][-1]
