"""What a study is: the parts of its file, and the checked study that the runner works with.

A study asks one question of one base configuration. Its `arms` are settings that a table compares,
each trained with every seed; an `ablation` makes arms out of factors; its `search` lets a sampler
look for better settings within a space, and `retune` does so for every arm.

There are two kinds of classes here, and most things have one of each:

    of the file (pydantic, what a person wrote)    checked (dataclasses, what the runner works with)
    StudyFile                                      Study
    ArmPart, AblationPart                          Arm
    SearchPart                                     Search
    SeedsPart                                      Study.seeds, Study.looks

A part of the file has the right types and nothing more: its settings may not exist and its names
may clash. Only reading.py turns the one kind into the other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from avsc_core.config import Config
from avsc_core.metrics import direction_of
from avsc_core.yaml_file import Located
from search_spaces.space import Space

Metric = Literal["val_acc", "val_logloss"]
Rule = Literal["crossfit", "best", "last", "last 3"]  # avsc_core/trainer/selection.py
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]  # as Config.seed

# Of a study that adds seeds until its differences are told: how many it has when they are first
# looked at, and the largest limit; the bounds of avsc_core/evaluation/sequential.py are exact
# enough for so many.
FIRST_LOOK = 3
LARGEST_LIMIT = 30

# A difference is told, or believed, when its p value is below this, corrected for the number of
# differences and of looks.
BELIEVED_BELOW = 0.05


class FilePart(BaseModel):
    """A part of a study file; keys that it does not know are faults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SeedsPart(FilePart):
    """Seeds that are added, from 0 on, until the arms' differences are told."""

    until: Literal["told"]
    at_most: Annotated[int, Field(alias="at most", gt=FIRST_LOOK, le=LARGEST_LIMIT)]


def _take_list(seeds: Any) -> Any:
    """Return the seeds of a study's first look where the file has a SeedsPart."""
    return list(range(FIRST_LOOK)) if isinstance(seeds, Mapping) else seeds


def _take_part(seeds: Any) -> Any:
    """Return a SeedsPart, and None where the file has a list."""
    return seeds if isinstance(seeds, Mapping) else None


class PublishedFigures(FilePart):
    """Figures from the literature, for comparison only; never mixed with ours."""

    table: str
    row: int | str
    acc: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] | None = None
    logloss: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class ArmPart(FilePart):
    """One row of a table, as the file has it; checked it becomes an `Arm`."""

    name: Annotated[str, Field(min_length=1)]
    set: dict[str, Any] = {}
    note: str = ""  # what a reader of the table should know of it
    published: PublishedFigures | None = None


class AblationPart(FilePart):
    """A design and its factors, as the file has them; checked they become several `Arm`s."""

    design: Literal["factorial", "leave_one_out", "add_one_in", "one_at_a_time"]
    factors: Annotated[dict[str, Any], Field(min_length=1)]  # arms.py says what a factor is
    published: dict[str, PublishedFigures] = {}  # by the name of the arm


class SearchPart(FilePart):
    """The `search:` of a file: `space`, `sampler` and `first` are unchecked. Checked, a
    `Search`."""

    space: Any = None
    trials: Count | None = None  # none: search.py says how many
    sampler: str = "tpe"
    scheduler: str = "asha"
    grace_epochs: Count = 3
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    seed: Seed = 0
    first: list[dict[str, Any]] = []  # known good points; what they leave out is as in the base
    warm_start: str | None = None  # an earlier study; the sampler learns from its trials too
    finalists: Count = 3  # with a ladder


def _divide(available: float, needed: float) -> int:
    """Count how often `needed` goes into `available`.

    0.3 holds 0.1 three times, whatever the last binary digit says.
    """
    return int(available / needed + 1e-6)


class Resources(FilePart):
    """What Ray gives one trial; several trials share a GPU when `gpus` is a fraction."""

    cpus: Annotated[float, Field(gt=0, strict=False, allow_inf_nan=False)] = 1.0
    gpus: Annotated[float, Field(ge=0, strict=False, allow_inf_nan=False)] = 0.0

    def count_places(self, cpus: float, gpus: float) -> int:
        """Count how many trials run at a time on so many CPUs and GPUs."""
        by_cpu = _divide(cpus, self.cpus)
        if not self.gpus:
            return by_cpu
        shares = _divide(1, self.gpus)  # a trial does not straddle two GPUs
        return min(by_cpu, int(gpus) * shares)


class StudyFile(FilePart):
    """The whole file; checked it becomes a `Study`."""

    question: str
    name: str | None = None
    source: str | None = None
    preset: str | None = None
    best_of: Annotated[str | None, Field(alias="best-of")] = None
    base: dict[str, Any] = {}
    metric: Any = "val_acc"  # or a list of two, the first deciding
    select: Rule | None = None  # none: Study.rule says which
    # `seeds` is a list or a SeedsPart. Two fields read it, because in the faults of a union
    # pydantic names its own types.
    seeds: Annotated[list[Seed], Field(min_length=1), BeforeValidator(_take_list)] = [0]
    seeds_part: Annotated[SeedsPart | None, Field(alias="seeds"), BeforeValidator(_take_part)] = (
        None
    )
    arms: list[ArmPart] = []
    ablation: AblationPart | None = None
    published: dict[str, PublishedFigures] = {}  # of systems that are no arm, by their name
    retune: Count | None = None
    search: SearchPart | None = None
    # The cheap rung and the full rung: each a preset, or settings over the base.
    ladder: Annotated[list[Any], Field(min_length=2, max_length=2)] | None = None
    tables: list[Annotated[str, Field(min_length=1)]] = []  # study files whose arms are taken over
    resources: Resources = Resources()


@dataclass(frozen=True)
class Arm:
    """A row of a table with its resolved configuration (the plan sets the seed)."""

    name: str
    config: Config
    published: PublishedFigures | None = None
    levels: Mapping[str, str] = field(default_factory=dict)  # factor -> level, of an ablation
    settled: tuple[str, ...] = ()  # the settings that make the arm, which no search may change
    note: str = ""
    table: str = ""  # the title of the `StudyTable` that it belongs to; its name begins with it


class StudyTable(NamedTuple):
    """A table of a study that takes its arms over from other study files."""

    title: str  # the table of the paper, else the name of the study file
    question: str
    design: str | None  # of the file's ablation
    published: Mapping[str, PublishedFigures]  # of systems that are no arm, by their name


@dataclass(frozen=True)
class Search:
    """A checked search: its space and points exist, and its sampler suits its scheduler."""

    space: Space
    trials: int
    sampler: str
    scheduler: str
    grace_epochs: int
    reduction_factor: int
    seed: int
    first: tuple[Mapping[str, Any], ...]  # points of the space, with all its active dimensions
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

    # As written: a setting that is inactive in the base may be active in a trial of the search.
    base: Config

    metrics: tuple[Metric, ...]
    select: Rule | None  # what the file says
    seeds: tuple[int, ...]  # those planned so far; the first is that of the searches
    looks: range  # the numbers of seeds at which differences are looked at; empty with a list
    design: str | None
    arms: tuple[Arm, ...]
    tables: tuple[StudyTable, ...]  # empty unless the arms come from other study files
    retune: int
    search: Search | None
    final: Config | None  # the base at the full rung of a ladder
    resources: Resources
    published: Mapping[str, PublishedFigures]  # of systems that are no arm, by their name

    # The lines of the file, and the flags of the command line that replaced some of it, for the
    # faults that only a data set or the record brings to light; no part of what the study asks.
    source_lines: Located = field(compare=False, repr=False)

    # Whether the record has the study from a version that knew no rules: it counted with the best
    # epoch, and did not repeat the best of its search with other seeds.
    begun_earlier: bool = False

    @property
    def rule(self) -> Rule:
        """The rule that selects the epochs which a trial's figures are taken from."""
        return self.select or ("best" if self.begun_earlier else "crossfit")

    @property
    def metric(self) -> Metric:
        """The metric that decides which epoch and which trial is best."""
        return self.metrics[0]

    @property
    def directions(self) -> tuple[str, ...]:
        """The better direction of each metric: more Acc is better, less Logloss."""
        return tuple(map(direction_of, self.metrics))

    def with_seeds(self, count: int) -> "Study":
        """Return the study with so many seeds, from 0 on."""
        return replace(self, seeds=tuple(range(count)))

    @property
    def direction(self) -> str:
        """The better direction of the deciding metric."""
        return self.directions[0]
