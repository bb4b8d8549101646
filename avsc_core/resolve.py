"""From a preset and overrides to one checked configuration, and from a configuration to the key that names its trial.

A preset states only its difference from the defaults in `config.py`. Overrides (`--set`, a study's base, an arm, a
sampled trial) are put over it, the later ones winning, and a fault names the place of the override that caused it.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from avsc_core.config import Config
from avsc_core.errors import Fault, UserError, suggest
from avsc_core.weights.sources import hash_source
from avsc_core.yaml_file import read_value, read_yaml

PRESETS = Path(__file__).parent / "presets"
NOT_IN_KEY = {
    "device",
    "workers",
    "compute",
}  # where and how a trial is computed does not change what it is


class Override(NamedTuple):
    """One value put over a preset, and where a person wrote it."""

    key: str  # dotted
    value: Any
    where: str


def resolve(preset: str, overrides: Iterable[Override] = (), where: str = "--preset") -> Config:
    """The configuration of `preset` with `overrides` put over it, later ones winning.

    Raises UserError with every fault: unknown keys, values out of range, parts that do not fit each other.
    """
    values, origin = dict(flatten(_preset(preset, where))), {}
    faults = []
    for key, value, place in overrides:
        names = list_fields()
        if key not in names:
            faults.append(
                Fault(place, f"unknown key '{key}'", suggest(key, names), "see `avsc-core config`")
            )
            continue
        values[key], origin[key] = value, place
    config = None
    try:
        config = Config.model_validate(nest(values))
    except ValidationError as error:
        faults += [_fault(item, origin, f"preset {preset}") for item in error.errors()]
    if faults or config is None:
        raise UserError(faults)
    return config


def parse_set(items: Iterable[str]) -> list[Override]:
    """`--set key=value` items as overrides. Raises UserError for items without `=`."""
    items = list(items)
    faults = [
        Fault("--set", f"'{item}' has no '='", "key=value") for item in items if "=" not in item
    ]
    if faults:
        raise UserError(faults)
    pairs = (item.split("=", 1) for item in items)
    return [Override(key.strip(), read_value(text), "--set") for key, text in pairs]


def read_overrides(path: Path) -> list[Override]:
    """A YAML file of settings, nested or dotted, as overrides with their lines. Raises UserError."""
    located = read_yaml(path)
    if not isinstance(located.data, Mapping):
        raise UserError(
            Fault(located.where(), "a configuration is a mapping", "section: {key: value}")
        )
    return [
        Override(key, value, located.where(*key.split("."))) for key, value in flatten(located.data)
    ]


def identify(config: Config) -> dict[str, Any]:
    """What a trial is, as JSON: the whole resolved configuration without where and how it is computed.

    Pretrained weights stand in it by their SHA-256: a moved file is the same file, another file of the name is not.
    """
    values = config.model_dump(mode="json", exclude=NOT_IN_KEY)
    for branch, weights in find_weights(config).items():
        values[branch]["weights"] = hash_source(weights)
    return values


def find_weights(config: Config) -> dict[str, str]:
    """Branch -> pretrained weights, of the branches that start from any."""
    named = {"audio": config.audio.weights, "visual": config.visual.weights}
    return {
        branch: weights
        for branch, weights in named.items()
        if weights and branch in config.modality.split("-")
    }


def find_random_branches(config: Config) -> list[str]:
    """The branches whose backbone starts from random weights, where the paper's start from published ones."""
    return [name for name in config.modality.split("-") if name not in find_weights(config)]


def trial_key(config: Config) -> str:
    """Sixteen hex digits that name a trial: a hash of its `identity`.

    Of the whole, never of the difference from defaults: a default that changes later must change the key.
    """
    return hashlib.sha256(json.dumps(identify(config), sort_keys=True).encode()).hexdigest()[:16]


@cache
def list_fields() -> Mapping[str, Any]:
    """Every dotted key of a configuration with its field, in order."""
    return dict(_fields(Config, ""))


def list_presets() -> list[str]:
    """The presets that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings as (dotted key, value) pairs."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def format_value(value: Any) -> str:
    """A value as `--set` and the record's params have it, so that `read_value` gives it back.

    Strings stand as they are where YAML reads them so (`/data/a #1` it does not), anything else as JSON, which is YAML.
    """
    plain = isinstance(value, str) and read_value(value) == value
    return value if plain else json.dumps(value, ensure_ascii=False)


def nest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        *sections, name = key.split(".")
        section = result
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = value
    return result


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from _fields(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def _preset(name: str, where: str) -> dict[str, Any]:
    if name not in list_presets():
        raise UserError(Fault(where, f"unknown preset '{name}'", suggest(name, list_presets())))
    data: dict[str, Any] = read_yaml(PRESETS / f"{name}.yaml").data
    return data


def _fault(item: Any, origin: Mapping[str, str], default: str) -> Fault:
    """One of pydantic's findings as a fault at the override that caused it."""
    key = ".".join(str(part) for part in item["loc"] if not isinstance(part, int))
    key = next(
        (name for name in list_fields() if key.startswith(f"{name}.")), key
    )  # a member of a union
    message = item["msg"].removeprefix("Value error, ")
    if "|" in message:  # a rule across fields names its own key
        own, message = message.split("|", 1)
        key = f"{key}.{own}" if key else own
    elif "input" in item and not isinstance(item["input"], Mapping):
        message = f"{item['input']!r} is not allowed; {message[0].lower()}{message[1:]}"
    where = origin.get(key) or next(
        (place for name, place in origin.items() if name.startswith(f"{key}.")), default
    )
    return Fault(where, f"{key}: {message}")
