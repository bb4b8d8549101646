"""The cost card of a study: trials, epochs, hours, memory and disk, before anything runs.

Every kind of training in the plan is probed for a few seconds (`avsc_core/trainer/probe.py`); the rest is counting.
Hours are what trials take that have the machine to themselves and are not stopped early.
"""

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import ceil
from typing import Any, NamedTuple

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.errors import Fault, UserError
from avsc_core.processes import Progress
from avsc_core.terminal import format_duration
from studies.runner.strategy import Strategy
from studies.study.schema import SEARCH_ARM, Resources, Study

GIB = 2**30
ROW_BYTES = 250  # of one clip's line in a trial's predictions


class Work(NamedTuple):
    """Trainings of one kind that a plan asks for."""

    config: Config
    trials: int
    search: str  # the search that asks, or "" for arms and what searches hand on


@dataclass(frozen=True)
class Cost:
    """What a study costs, or what is left of it."""

    trials: int
    epochs: int  # at most
    hours: float  # at most, with so many side by side
    searched: int  # of them of the study's own search
    hours_a_searched_trial: float
    side_by_side: int
    longest: float  # seconds of the longest trial
    memory: int  # bytes, peak of the largest trial
    fit: int  # trials that the device's memory holds
    disk: int  # bytes of features, checkpoints and predictions
    device: str

    def as_json(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)

    def rows(self) -> list[list[str]]:
        """What people see."""
        return [
            ["trials", f"{self.trials}, {self.side_by_side} side by side"],
            ["epochs", f"{self.epochs:,} at most"],
            [
                "time",
                f"{format_duration(3600 * self.hours)} if none is stopped early, the longest {format_duration(self.longest)}",
            ],
            ["memory", f"{self.memory / GIB:.1f} GiB a trial; {self.device} holds {self.fit}"],
            ["disk", f"{self.disk / GIB:.2f} GiB of features, checkpoints and predictions"],
        ]


def estimate_cost(strategy: Strategy, data: DataSet, side_by_side: int, progress: Progress) -> Cost:
    """Probe what the strategy's plan trains and count what is left of it."""
    from avsc_core.trainer.probe import Measured, describe_cost, probe  # torch

    plan = strategy.plan
    resources = plan.study.resources
    where = {} if resources.gpus else {"device": "cpu"}  # as `tune.py` tells a trial without a GPU
    work = [item for item in _work(strategy) if item.trials]
    measured: dict[str, Measured] = {}
    each: list[float] = []  # seconds of a trial of each
    for number, item in enumerate(work):
        progress("measuring the cost", number, len(work))
        own = describe_cost(item.config)
        if own not in measured:
            measured[own] = probe(item.config.model_copy(update=where), max(1, int(resources.cpus)))
        each.append(_seconds(item.config, measured[own].step, measured[own].predict, data))
    if work:
        progress("measuring the cost", len(work), len(work))
    longest = max(each, default=0.0)
    whole = sum(item.trials * time for item, time in zip(work, each, strict=True))
    memory = max((cost.memory for cost in measured.values()), default=0)
    parameters = max((cost.parameters for cost in measured.values()), default=0)
    trials = sum(item.trials for item in work)
    searched = [time for item, time in zip(work, each, strict=True) if item.search == SEARCH_ARM]
    one = next(iter(measured.values()), None)
    validation = len(split_rows(data, plan.study.base.split).validation)
    checkpoints = 12 * parameters * min(side_by_side, trials)  # weights and two moments
    return Cost(
        trials=trials,
        epochs=sum(item.trials * item.config.training.epochs for item in work),
        hours=max(whole / side_by_side, longest) / 3600,
        searched=sum(item.trials for item in work if item.search == SEARCH_ARM),
        hours_a_searched_trial=max(searched, default=0.0) / 3600 / side_by_side,
        side_by_side=side_by_side,
        longest=longest,
        memory=memory,
        fit=one.available // memory if one and memory else 0,
        disk=_feature_bytes(work, len(data.clips)) + checkpoints + trials * validation * ROW_BYTES,
        device=one.device if one else "",
    )


def trim_search(study: Study, card: Cost, max_hours: float) -> Study:
    """The study with as many trials of its own search as fit into `max_hours`. Raises UserError when none do."""
    over = card.hours - max_hours
    if over <= 0:
        return study
    cut = ceil(over / card.hours_a_searched_trial) if card.hours_a_searched_trial else 0
    too_long = card.longest > 3600 * max_hours
    if (
        study.search is None
        or too_long
        or not 0 < cut <= min(card.searched, study.search.trials - 1)
    ):
        what = f"{card.trials} trials take up to {card.hours:.1f} h, {max_hours:g} h are allowed"
        todo = "fewer seeds or arms, a cheaper preset, or more hours"
        raise UserError(Fault("--max-hours", what, todo=todo))
    return replace(study, search=replace(study.search, trials=study.search.trials - cut))


def count_places(resources: Resources, cpus: float, gpus: float) -> int:
    """How many trials run at a time on so many CPUs and GPUs."""
    places = _times(cpus, resources.cpus)
    if resources.gpus >= 1:
        return min(places, _times(gpus, resources.gpus))
    return min(places, int(gpus) * _times(1, resources.gpus)) if resources.gpus else places


def count_local_places(resources: Resources) -> int:
    """How many trials run at a time on this machine, at least one."""
    import torch

    return max(1, count_places(resources, os.cpu_count() or 1, torch.cuda.device_count()))


def _times(have: float, want: float) -> int:
    """How often `want` goes into `have`: 0.1 into 0.3 three times, whatever the last binary digit says."""
    return int(have / want + 1e-6)


def _work(strategy: Strategy) -> Iterator[Work]:
    """What is left to train, by configuration."""
    study = strategy.plan.study
    for trial in strategy.waiting:
        yield Work(trial.config, 1, "")
    for name, searching in strategy.searches.items():
        base = searching.plan.base
        yield Work(base, searching.left, name)
        if searching.over:  # what it hands on is waiting, or trained
            continue
        if name != SEARCH_ARM and len(study.seeds) > 1:
            yield Work(base, len(study.seeds) - 1, "")
        elif study.final and study.search:
            yield Work(study.final, (study.search.finalists + 1) * len(study.seeds), "")


def _seconds(config: Config, step: float, predict: float, data: DataSet) -> float:
    """Of a whole training."""
    train, validation, _ = split_rows(data, config.split)
    size = config.training.batch_size
    return config.training.epochs * (
        ceil(len(train) / size) * step + ceil(len(validation) / size) * predict
    )


def _feature_bytes(work: list[Work], clips: int) -> int:
    """Of the arrays that trials share."""
    sizes: dict[str, int] = {}
    for item in work:
        sound, look = item.config.log_mel, item.config.pictures
        settings = sound.model_dump(exclude={"normalise"}) | {"peak": sound.normalise == "peak"}
        sizes[f"{settings}"] = clips * sound.frames * 128 * (2 if sound.stored == "float16" else 4)
        sizes[f"{look}"] = clips * look.frames * 3 * look.size**2
    return sum(sizes.values())
