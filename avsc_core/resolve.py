"""This module turns a preset and overrides into one checked configuration and its trial key.

A preset states only its difference from the defaults in `config.py`. Overrides (from `--set`, a
study's base, an arm or a sampled trial) replace its values; of two for one key the later one wins.
A fault names the place where the override was written: a flag, or a file with its line.

Keys are dotted (`alignment.k`); `flatten` and `nest` convert between them and nested mappings.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from avsc_core.config import Config, FieldError
from avsc_core.errors import Fault, UserError, make_error, suggest
from avsc_core.weights.sources import hash_source
from avsc_core.yaml_file import read_text, read_value, read_yaml

PRESETS = Path(__file__).parent / "presets"

_SECTIONS: dict[tuple[str, str], BaseModel] = {}  # those in use, see `share_sections`

# Fields outside a trial's key: where and how a trial is computed does not change what it is.
NOT_IN_KEY = {"device", "workers", "compute"}


class Override(NamedTuple):
    """One value that replaces a preset's, and where a person wrote it."""

    key: str  # dotted
    value: Any
    where: str


def resolve(preset: str, overrides: Iterable[Override] = (), where: str = "--preset") -> Config:
    """Return the configuration of `preset` with `overrides` applied in order.

    `where` is the place that names the preset. Raises UserError with every fault: unknown keys,
    values out of range, settings that do not fit each other.
    """
    if preset not in list_presets():
        raise make_error(where, f"unknown preset '{preset}'", suggest(preset, list_presets()))
    values = dict(flatten(read_yaml(PRESETS / f"{preset}.yaml").data))
    places = {}
    faults = []
    names = list_fields()

    for key, value, place in overrides:
        if key in names:
            values[key] = value
            places[key] = place
        else:
            what = f"unknown key '{key}'"
            faults.append(Fault(place, what, suggest(key, names), "see `avsc-core config`"))

    # Values are checked even when a key is unknown, so that a person sees all faults at once.
    try:
        config = Config.model_validate(nest(values))
    except ValidationError as error:
        for item in error.errors():
            faults.append(_make_fault(item, places, f"preset {preset}"))
        raise UserError(faults) from None
    if faults:
        raise UserError(faults)
    return config


def parse_set(
    items: Iterable[str] | None, more_text: frozenset[str] = frozenset()
) -> list[Override]:
    """Read `--set key=value` items as overrides.

    The value of a setting that is text is taken as typed; `more_text` has the keys of such settings
    that no configuration has. Raises UserError naming every item without `=`.
    """
    overrides = []
    faults = []
    for item in items or ():
        key, separator, text = item.partition("=")
        key = key.strip()
        if separator:
            read = read_text if key in list_text_keys(Config) | more_text else read_value
            overrides.append(Override(key, read(text), "--set"))
        else:
            faults.append(Fault("--set", f"'{item}' has no '='", "key=value"))
    if faults:
        raise UserError(faults)
    return overrides


def read_overrides(path: Path) -> list[Override]:
    """Read a YAML file of settings, nested or dotted, as overrides with their lines.

    Raises UserError when the file cannot be read or is not a mapping.
    """
    located = read_yaml(path)
    if not isinstance(located.data, Mapping):
        what = "a configuration is a mapping"
        raise make_error(located.where(), what, "section: {key: value}")
    return [
        Override(key, value, located.where(*key.split("."))) for key, value in flatten(located.data)
    ]


def identify(config: Config) -> dict[str, Any]:
    """Return what a trial is, as JSON: its configuration without where and how it is computed.

    Pretrained weights are named by the SHA-256 of their file, so that a file may be moved, and
    another file under the same name is another trial. Settings that came after version 0.1.0 are
    left out at their defaults (`Section.ADDED`); `complete_settings` puts them back.
    """
    values = config.model_dump(mode="json", exclude=NOT_IN_KEY)
    for name, added, default in _list_added():
        if values[name][added] == default:
            del values[name][added]
    if not follows_backbone(config):
        del values["pictures"]["preparation"]

    for branch, weights in hash_weights(config).items():
        values[branch]["weights"] = weights
    for branch, file in find_given_encodings(config).items():
        values[branch]["encodings"] = hash_source(file)
    return values


def complete_settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `identify` returned as dotted settings, with the defaults that it left out."""
    settings = {"pictures.preparation": "settings"}
    for name, added, default in _list_added():
        settings[f"{name}.{added}"] = default
    return {**settings, **dict(flatten(identity))}


def read_recorded(values: Mapping[str, Any]) -> Config:
    """Check the settings of a record or of a model folder, perhaps of an earlier version.

    Earlier versions prepared the pictures of all backbones as the settings say. Raises
    ValidationError.
    """
    pictures = {"preparation": "settings", **values.get("pictures", {})}
    return Config.model_validate({**values, "pictures": pictures})


def share_sections(config: Config) -> Config:
    """Return an equal configuration that has the sections of earlier ones where these are equal.

    The thousands of trials of a study differ in a section or two; a whole configuration is 15 kB.
    """
    shared = {}
    for name in Config.model_fields:
        section = getattr(config, name)
        if isinstance(section, BaseModel):
            # By their text, because 0.0 and -0.0 are equal and make different keys.
            shared[name] = _SECTIONS.setdefault((name, section.model_dump_json()), section)
    return config.model_copy(update=shared)


def follows_backbone(config: Config) -> bool:
    """Tell whether the pictures are prepared as a stand-in for ConvNeXt expects them."""
    visual = config.visual
    reads_pictures = "visual" in config.modality and visual.encodings is None
    is_stand_in = visual.backbones[0] != "convnext"
    return reads_pictures and is_stand_in and config.pictures.preparation == "backbone"


def find_given_encodings(config: Config) -> dict[str, str]:
    """Map each branch that has encodings in its encoder's place to the file of these."""
    found = {}
    for branch in config.modality.split("-"):
        file = getattr(config, branch).encodings
        if file:
            found[branch] = file
    return found


def find_weights(config: Config) -> dict[str, tuple[str | None, ...]]:
    """Map each branch that starts from pretrained weights to their sources, one a backbone.

    None stands for a backbone with random weights. A branch without an encoder is left out.
    """
    found = {}
    given = find_given_encodings(config)
    for branch in config.modality.split("-"):
        sources = getattr(config, branch).sources
        if any(sources) and branch not in given:
            found[branch] = sources
    return found


def hash_weights(config: Config) -> dict[str, str | list[str | None]]:
    """Map each branch with pretrained weights to their SHA-256, a list for several backbones."""
    found: dict[str, str | list[str | None]] = {}
    for branch, sources in find_weights(config).items():
        hashes = [source and hash_source(source) for source in sources]
        found[branch] = hashes if len(hashes) > 1 else str(hashes[0])
    return found


def find_random_branches(config: Config) -> list[str]:
    """List the branches that start from random weights; the paper's start from published ones."""
    weights = find_weights(config)
    given = find_given_encodings(config)
    found = []
    for name in config.modality.split("-"):
        if name not in given and not all(weights.get(name, (None,))):
            found.append(name)
    return found


def trial_key(config: Config) -> str:
    """Return the sixteen hex digits that name a trial: a hash of what `identify` returns.

    All settings are hashed, not only those that differ from the defaults, so that a default that
    changes in a later version changes the key.
    """
    text = json.dumps(identify(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def configuration_key(config: Config) -> str:
    """Name a configuration whatever its seed: trials with the same name fill one row of a table."""
    return trial_key(config.model_copy(update={"seed": 0}))


@cache
def list_fields() -> Mapping[str, Any]:
    """Map every dotted key of a configuration to its field, in order."""
    return dict(_walk_fields(Config, ""))


@cache
def list_text_keys(model: type[BaseModel], prefix: str = "") -> frozenset[str]:
    """List the dotted keys of the fields that hold text, a list of texts, or none."""
    fields = _walk_fields(model, prefix)
    return frozenset(key for key, info in fields if _list_types(info.annotation) == {str})


def list_presets() -> list[str]:
    """List the presets that are part of the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def list_settings(config: Config) -> dict[str, Any]:
    """List the settings of a configuration: dotted key -> value, as JSON has it.

    `flatten` would do, but this is called for every trial of a study, and is five times as fast.
    """
    settings = {}
    for name, value in config.model_dump(mode="json").items():
        if isinstance(value, dict):
            for field, setting in value.items():
                settings[f"{name}.{field}"] = setting
        else:
            settings[name] = value
    return settings


@cache
def list_defaults() -> Mapping[str, Any]:
    """List the defaults of all settings, as `list_settings` does."""
    return list_settings(Config())


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for every value in nested mappings."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested mappings of values by dotted key; the inverse of `flatten`."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        section = result
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = value
    return result


def format_value(value: Any) -> str:
    """Write a value so that `read_value` gives it back, as `--set` and the record's params need it.

    A string stays as it is when YAML reads it as the same string. Everything else becomes JSON,
    which YAML and `read_text` read too: so does the string `/data/a #1`, which YAML would cut at
    the `#`.
    """
    if isinstance(value, str) and _reads_back(value):
        return value
    return json.dumps(value, ensure_ascii=False)


@lru_cache  # the trials of a study have mostly the same settings
def _reads_back(text: str) -> bool:
    """Tell whether YAML reads a text as the same text."""
    return bool(read_value(text) == text)


@cache
def _list_added() -> list[tuple[str, str, Any]]:
    """List the settings that came after version 0.1.0: section, field, default as JSON has it."""
    added = []
    for name, section in Config.model_fields.items():
        fields = sorted(getattr(section.annotation, "ADDED", ()))
        added += [(name, field, list_defaults()[f"{name}.{field}"]) for field in fields]
    return added


def _walk_fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, field) for every field of a section and the sections inside it."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _walk_fields(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def _list_types(annotation: Any) -> set[Any]:
    """List the types of the single values that an annotation allows, apart from none."""
    if get_origin(annotation) is Literal:
        return {type(value) for value in get_args(annotation)}
    if get_origin(annotation) is Annotated:
        return _list_types(get_args(annotation)[0])

    parts = set(get_args(annotation)) - {NoneType, Ellipsis}
    return set().union(*map(_list_types, parts)) if parts else {annotation}


def _make_fault(item: Any, places: Mapping[str, str], default: str) -> Fault:
    """Turn one of pydantic's findings into a fault at the override that caused it.

    `places` maps the dotted keys of overrides to where they were written; `default` is the place
    of values that no override gave.
    """
    key = _find_key(item)
    message = item["msg"].removeprefix("Value error, ")
    error = item.get("ctx", {}).get("error")

    if isinstance(error, FieldError):
        key = error.field
    elif "input" in item and not isinstance(item["input"], Mapping):
        message = f"{item['input']!r} is not allowed; {message[0].lower()}{message[1:]}"

    # A rule across a section names the section; any override inside it may be the cause.
    inside = (place for name, place in places.items() if name.startswith(f"{key}."))
    where = places.get(key) or next(inside, default)
    return Fault(where, f"{key}: {message}")


def _find_key(item: Any) -> str:
    """Return the dotted key of the field at which pydantic found a fault.

    pydantic's location may go on below the field: a position in a list, or the member of a union.
    """
    key = ".".join(str(part) for part in item["loc"] if not isinstance(part, int))
    fields = (name for name in list_fields() if key.startswith(f"{name}."))
    return next(fields, key)
