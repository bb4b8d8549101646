"""Inactive settings: the settings without effect in a configuration.

Some settings are read only when other settings have certain values. With `alignment.enabled:
false`, nothing reads K (`alignment.k`), the contrast mode or the loss weights lambda_3 and lambda_4
of Eq. 7; with `modality: audio`, nothing reads the settings of the visual branch. Such a setting is
*inactive* in that configuration. `CONDITIONS` in catalogue.py says which values of which other
settings a setting needs; one that it does not name is always active.

Three things follow from this.

- Equal trainings get equal trial keys. Configurations that differ in inactive settings alone train
  the same model. `reset_inactive` gives each inactive setting one fixed value, which makes those
  configurations equal:

      alignment: {enabled: false, k: 7}  ->  alignment: {enabled: false, k: 1}
      alignment: {enabled: false, k: 9}  ->  alignment: {enabled: false, k: 1}

- A search never varies an inactive setting: a sampler is asked for K only at the points that have
  the alignment (`Space` in space.py).
- Tables show active settings alone (`list_active`), because the value of an inactive one describes
  nothing.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from avsc_core.config import Config
from avsc_core.resolve import list_defaults, list_settings, nest
from search_spaces.catalogue import CONDITIONS, GROUPS, INACTIVE_VALUES
from search_spaces.domains import Domain

# The settings that conditions look at; their values are names, numbers and texts.
LOOKED_AT = tuple(dict.fromkeys(other for needs in CONDITIONS.values() for other in needs))


def is_active(key: str, settings: Mapping[str, Any]) -> bool:
    """Tell whether `key` has an effect under `settings` (dotted key -> value)."""
    needs = CONDITIONS.get(key, {}).items()
    return all(settings[other] in wanted for other, wanted in needs)


def can_be_active(key: str, dimensions: Mapping[str, Domain], fixed: Mapping[str, Any]) -> bool:
    """Tell whether `key` is active at some point of `dimensions`; other settings are `fixed`."""
    for other, wanted in CONDITIONS.get(key, {}).items():
        if other in dimensions:
            possible = any(map(dimensions[other].contains, wanted))
        else:
            possible = fixed[other] in wanted
        if not possible:
            return False
    return True


def has_active_loss(settings: Mapping[str, Any]) -> bool:
    """Tell whether an active loss weight is above 0, without which there is nothing to learn."""
    return any(settings[key] and is_active(key, settings) for key in GROUPS["loss_weights"])


def list_inactive(config: Config) -> list[str]:
    """List the dotted keys of the settings that are inactive in a configuration."""
    return list(_find_inactive(list_settings(config)))


def list_active(config: Config) -> dict[str, Any]:
    """Return the active settings of a configuration, dotted key -> value as JSON has it."""
    settings = list_settings(config)
    for key in _find_inactive(settings):
        del settings[key]
    return settings


def reset_inactive(config: Config) -> Config:
    """Return the configuration with each inactive setting at its one value for that case.

    The value is that of `INACTIVE_VALUES`, else the setting's default. Raises ValueError when
    every active loss weight is 0.
    """
    settings = list_settings(config)
    if not has_active_loss(settings):
        raise ValueError("every active loss weight is 0")
    if not _find_inactive(settings):
        return config
    # Validation makes a new configuration; this one is frozen.
    return Config.model_validate(nest(reset_inactive_settings(settings)))


def reset_inactive_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a configuration, dotted, with the inactive ones as `reset_inactive`
    leaves them."""
    found = dict(settings)
    for key in _find_inactive(settings):
        found[key] = INACTIVE_VALUES.get(key, list_defaults()[key])
    return found


def _find_inactive(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Find the keys of the settings that are inactive, given all settings."""
    return _evaluate_conditions(tuple(settings[key] for key in LOOKED_AT))


@lru_cache
def _evaluate_conditions(values: tuple[Any, ...]) -> tuple[str, ...]:
    """Find the inactive settings, given the values of LOOKED_AT.

    Most trials of a study agree in these, so it is evaluated once for many.
    """
    settings = dict(zip(LOOKED_AT, values, strict=True))
    return tuple(key for key in CONDITIONS if not is_active(key, settings))
