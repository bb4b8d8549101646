"""What a study is: the parts of its file, and the checked study that the rest of the runner works with.

A study asks one question of one base configuration. Its `arms` are settings that a table compares, each run to its end
with every seed; an `ablation` makes arms out of factors; its `search` lets a sampler look for better settings within a
space, and `retune` does so for every arm. `read.py` turns a file into one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from avsc_core.config import Config
from search_spaces.space import Space

Metric = Literal["val_acc", "val_logloss"]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # as Config.seed


class FilePart(BaseModel):
    """A part of a study file; it accepts nothing it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PublishedFigures(FilePart):
    """Figures from the literature, for comparison only; never mixed with ours."""

    table: str
    row: int | str
    acc: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    logloss: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class ArmPart(FilePart):
    """One row of a table."""

    name: Annotated[str, Field(min_length=1)]
    set: dict[str, Any] = {}
    note: str = ""  # what a reader of the table should know of it
    published: PublishedFigures | None = None


class AblationPart(FilePart):
    """Arms made out of factors: a setting with its values, or a name with levels and what each of them sets."""

    design: Literal["factorial", "leave_one_out", "add_one_in", "one_at_a_time"]
    factors: Annotated[dict[str, Any], Field(min_length=1)]  # `ablation.py` says what a factor is
    published: dict[str, PublishedFigures] = {}  # by the name of the arm


class SearchPart(FilePart):
    """What a sampler looks for."""

    space: Any = None
    trials: Annotated[int, Field(ge=1)] | None = None  # none: `searching.py` says how many
    sampler: str = "tpe"
    scheduler: str = "asha"
    grace_epochs: Annotated[int, Field(ge=1)] = 3
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    seed: Seed = 0
    first: list[dict[str, Any]] = []  # known good points, over the base
    warm_start: str | None = (
        None  # an earlier study, whose trials of this space the sampler is told of
    )
    finalists: Annotated[int, Field(ge=1)] = 3  # with a ladder


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
    best_of: Annotated[str | None, Field(alias="best-of")] = None
    base: dict[str, Any] = {}
    metric: Any = "val_acc"  # or a list of two, the first deciding
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    arms: list[ArmPart] = []
    ablation: AblationPart | None = None
    retune: Annotated[int, Field(ge=1)] | None = None
    search: SearchPart | None = None
    ladder: Annotated[list[Any], Field(min_length=2, max_length=2)] | None = (
        None  # presets, or settings over the base
    )
    resources: Resources = Resources()


@dataclass(frozen=True)
class Arm:
    """A row of a table with its resolved configuration (the seed is put in by the plan)."""

    name: str
    config: Config
    published: PublishedFigures | None = None
    levels: Mapping[str, str] = field(default_factory=dict)  # factor -> level, of an ablation
    settled: tuple[str, ...] = ()  # the settings that make the arm, which no search may change
    note: str = ""


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
    first: tuple[Mapping[str, Any], ...]  # whole points of the space
    warm_start: str | None
    finalists: int


@dataclass(frozen=True)
class Study:
    """A checked study."""

    name: str
    path: Path
    question: str
    source: str | None
    preset: str
    best_of: tuple[str, str] | None  # (study, key of its trial) that the base was taken from
    base: Config  # as written: what means nothing in it may mean something in a trial that switches a module on
    metrics: tuple[Metric, ...]
    seeds: tuple[int, ...]
    design: str | None
    arms: tuple[Arm, ...]
    retune: int
    search: Search | None
    final: Config | None  # the base at the upper rung of a ladder
    resources: Resources

    @property
    def metric(self) -> Metric:
        """What decides the best epoch and the best trial."""
        return self.metrics[0]

    @property
    def directions(self) -> tuple[str, ...]:
        """Of every metric: more Acc is better, less Logloss."""
        return tuple("max" if metric == "val_acc" else "min" for metric in self.metrics)

    @property
    def direction(self) -> str:
        """Of the deciding metric."""
        return self.directions[0]
