"""What a study is: the parts of its file, and the checked study that the rest of the runner works with.

A study asks one question of one base configuration. Its `arms` are settings that a table compares, each run to its end
with every seed; its `search` lets a sampler look for better settings within a space. `read.py` turns a file into one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from avsc_core.config import Config
from search_spaces.space import Space

Metric = Literal["val_acc", "val_logloss"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # as Config.seed
SEARCH_ARM = "search"


class FilePart(BaseModel):
    """A part of a study file; it accepts nothing it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Published(FilePart):
    """Figures from the literature, for comparison only; never mixed with ours."""

    table: str
    row: int | str
    acc: float | None = None
    logloss: float | None = None


class ArmPart(FilePart):
    """One row of a table."""

    name: Annotated[str, Field(min_length=1)]
    set: dict[str, Any] = {}
    published: Published | None = None


class SearchPart(FilePart):
    """What a sampler looks for."""

    space: Any = None
    trials: Annotated[int, Field(ge=1)] = 20
    sampler: str = "tpe"
    scheduler: str = "asha"
    grace_epochs: Annotated[int, Field(ge=1)] = 3
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    seed: Seed = 0


class Resources(FilePart):
    """What Ray gives one trial; several trials share a GPU when `gpus` is a fraction."""

    cpus: Annotated[float, Field(gt=0, strict=False, allow_inf_nan=False)] = 1.0
    gpus: Annotated[float, Field(ge=0, strict=False, allow_inf_nan=False)] = 0.0


class StudyFile(FilePart):
    """The whole file."""

    question: str
    name: str | None = None
    source: str | None = None
    preset: str | None = None
    base: dict[str, Any] = {}
    metric: Metric = "val_acc"
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    arms: list[ArmPart] = []
    search: SearchPart | None = None
    resources: Resources = Resources()


@dataclass(frozen=True)
class Arm:
    """A row of a table with its resolved configuration (the seed is put in by the plan)."""

    name: str
    config: Config
    published: Published | None


@dataclass(frozen=True)
class Search:
    """A checked search."""

    space: Space
    trials: int
    sampler: str
    scheduler: str
    grace_epochs: int
    reduction_factor: int
    seed: int


@dataclass(frozen=True)
class Study:
    """A checked study."""

    name: str
    path: Path
    question: str
    source: str | None
    preset: str
    base: Config
    metric: Metric
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    search: Search | None
    resources: Resources

    @property
    def direction(self) -> str:
        """More is better for Acc, less for Logloss."""
        return "max" if self.metric == "val_acc" else "min"
