"""The cost of a study before anything runs: trials, epochs, hours, memory and disk.

Every kind of training in the plan is probed for a few seconds (`avsc_core/trainer/probe.py`); the
rest is counting. The hours are those of trials that share the machine with no other program and
are not stopped early.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

from rich.table import Table

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.errors import Fault, UserError
from avsc_core.files import cache_root
from avsc_core.processes import Progress
from avsc_core.record.trials import OWN_SEARCH
from avsc_core.terminal import err, format_duration, make_table
from avsc_core.trainer.probe import UNKNOWN, Measured, describe_cost, probe
from studies.engine.blame import end_study, judge
from studies.engine.strategy import Strategy
from studies.study.plan import make_plan
from studies.study.schema import Resources, Study

GIB = 2**30
ROW_BYTES = 250  # of one clip's line in a trial's predictions
STATE_BYTES = 12  # of one parameter in a checkpoint: its weight and AdamW's two moments


class Work(NamedTuple):
    """Trainings of one kind that a plan asks for."""

    config: Config
    trials: int
    search: str  # the search that asks for them; empty for arms and follow-up trials


@dataclass(frozen=True)
class Cost:
    """What a study costs, or what is left of it."""

    trials: int
    epochs: int  # at most
    hours: float  # at most, with `side_by_side` trials at a time
    searched: int  # trials of the study's own search
    hours_a_searched_trial: float
    side_by_side: int
    longest: float  # seconds of the longest trial
    memory: int  # bytes, peak of the largest trial
    fit: int  # trials that the device's memory holds
    disk: int  # bytes of features, checkpoints and predictions
    device: str
    sharing: str  # how many trainings the rows of the tables ask for, where rows share some
    device_hours: float  # at most, of the CPUs or GPUs that trials are given
    device_unit: str  # "CPU" or "GPU"
    longest_epoch: float  # seconds, of any trial
    checkpoint: int  # bytes, of the largest one

    def make_rows(self) -> list[list[str]]:
        """Return what people see: (what, about how much)."""
        hours = format_duration(3600 * self.hours)
        longest = format_duration(self.longest)
        memory = f"{self.memory / GIB:.1f} GiB a trial"
        sharing = [["rows", self.sharing]] if self.sharing else []
        return [
            *sharing,
            ["trials", f"{self.trials}, {self.side_by_side} side by side"],
            ["epochs", f"{self.epochs:,} at most"],
            ["time", f"{hours} if none is stopped early, the longest {longest}"],
            ["devices", f"{self.device_hours:,.2f} {self.device_unit}-hours"],
            ["memory", f"{memory}; {self.device} holds {self.fit}"],
            ["disk", f"{self.disk / GIB:.2f} GiB of features, checkpoints and predictions"],
        ]


def estimate_cost(strategy: Strategy, data: DataSet, side_by_side: int, progress: Progress) -> Cost:
    """Probe every kind of training that the plan asks for and count what is left of it."""
    work = [item for item in _list_work(strategy) if item.trials]
    resources = strategy.plan.study.resources
    measured = _probe_work(work, resources, progress)

    # Seconds: of all trials together, of the longest, and of one of the study's own search, which
    # `trim_search` can make shorter.
    total = 0.0
    longest = 0.0
    longest_epoch = 0.0
    searched = 0
    searched_seconds = 0.0
    for item, its_cost in zip(work, measured, strict=True):
        epoch = _estimate_epoch(item.config, its_cost, data)
        seconds = item.config.training.epochs * epoch
        total += item.trials * seconds
        longest = max(longest, seconds)
        longest_epoch = max(longest_epoch, epoch)
        if item.search == OWN_SEARCH:
            searched = item.trials
            searched_seconds = seconds

    # Memory and disk: of the largest trial, and of what all of them write.
    trials = sum(item.trials for item in work)
    memory = max((each.memory for each in measured), default=0)
    parameters = max((each.parameters for each in measured), default=0)
    device = next((each for each in measured if each.device), None)
    validation_clips = len(split_rows(data, strategy.plan.study.base.split).validation)
    features = _count_feature_bytes(work, measured, len(data.clips))
    checkpoint = STATE_BYTES * parameters
    # A checkpoint is kept until the next one is whole.
    checkpoints = 2 * checkpoint * min(side_by_side, trials)
    predictions = trials * validation_clips * ROW_BYTES
    return Cost(
        trials=trials,
        epochs=sum(item.trials * item.config.training.epochs for item in work),
        hours=max(total / side_by_side, longest) / 3600,
        searched=searched,
        hours_a_searched_trial=searched_seconds / 3600 / side_by_side,
        side_by_side=side_by_side,
        longest=longest,
        memory=memory,
        fit=device.available // memory if device and memory else 0,
        disk=features + checkpoints + predictions,
        device=device.device if device else "",
        sharing=strategy.plan.sharing,
        device_hours=total / 3600 * (resources.gpus or resources.cpus),
        device_unit="GPU" if resources.gpus else "CPU",
        longest_epoch=longest_epoch,
        checkpoint=checkpoint,
    )


def estimate_range(
    strategy: Strategy, data: DataSet, side_by_side: int, progress: Progress
) -> list[Cost]:
    """Estimate what is left at least and at most; one cost, unless seeds are added until told."""
    costs = [estimate_cost(strategy, data, side_by_side, progress)]
    plan = strategy.plan
    if plan.study.looks:
        longest = make_plan(plan.study.with_seeds(plan.study.looks[-1]), plan.missing)
        with_all_seeds = Strategy(longest, strategy.records, strategy.earlier, strategy.elsewhere)
        costs.append(estimate_cost(with_all_seeds, data, side_by_side, progress))
    return costs


def make_cost_table(title: str, costs: Sequence[Cost]) -> Table:
    """Make the table that people see of `estimate_range`."""
    header = ["", "at least", "at most"] if len(costs) > 1 else ["", "about"]
    rows = []
    for lines in zip(*(cost.make_rows() for cost in costs), strict=True):
        rows.append([lines[0][0], *(figure for _, figure in lines)])
    return make_table(title, header, rows)


def trim_search(study: Study, cost: Cost, max_hours: float) -> Study:
    """Return the study with as many trials of its own search as fit into `max_hours`.

    Raises UserError when leaving out searched trials cannot make it short enough.
    """
    excess = cost.hours - max_hours
    if excess <= 0:
        return study

    # At least one searched trial stays, and what the record has is not cut.
    removed = ceil(excess / cost.hours_a_searched_trial) if cost.hours_a_searched_trial else 0
    search = study.search
    too_long = cost.longest > 3600 * max_hours
    if search is None or too_long or not 0 < removed <= min(cost.searched, search.trials - 1):
        what = f"{cost.trials} trials take up to {cost.hours:.1f} h, {max_hours:g} h are allowed"
        todo = "fewer seeds or arms, a cheaper preset, or more hours"
        raise UserError(Fault("--max-hours", what, todo=todo))
    return replace(study, search=replace(search, trials=search.trials - removed))


def count_local_places(resources: Resources) -> int:
    """Count how many trials run at a time on this machine, at least one."""
    import torch

    return max(1, resources.count_places(os.cpu_count() or 1, torch.cuda.device_count()))


def _list_work(strategy: Strategy) -> Iterator[Work]:
    """Yield what is left to train, by configuration."""
    study = strategy.plan.study
    for trial in strategy.waiting:
        yield Work(trial.config, 1, "")

    for name, search in strategy.searches.items():
        base = search.plan.base
        yield Work(base, search.left, name)
        if search.over:  # its follow-up trials are waiting, or trained
            continue
        if study.final and study.search:
            # The finalists and the base.
            yield Work(study.final, (study.search.finalists + 1) * len(study.seeds), "")
        elif not (name == OWN_SEARCH and study.begun_earlier):
            # Its best with the other seeds.
            yield Work(base, len(study.seeds) - 1, "")


def _probe_work(work: list[Work], resources: Resources, progress: Progress) -> list[Measured]:
    """Measure the training of every item, equal ones once."""
    # A trial without a GPU share trains on the CPU, as `tune.py` tells it.
    changes = {} if resources.gpus else {"device": "cpu"}
    keys = [describe_cost(item.config) for item in work]
    configs = {key: item.config for key, item in zip(keys, work, strict=True)}

    # The steps of the progress are measurements, so that its time left is not that of all items.
    measured: dict[str, Measured] = {}
    for key, config in configs.items():
        progress("measuring the cost", len(measured), len(configs))
        measured[key] = _probe(config.model_copy(update=changes), resources)
    if configs:
        progress("measuring the cost", len(configs), len(configs))
    return [measured[key] for key in keys]


def _probe(config: Config, resources: Resources) -> Measured:
    """Measure a configuration. Raises EnvironmentFault when its environment is at fault."""
    try:
        return probe(config, threads=max(1, int(resources.cpus)))
    except UserError:
        raise
    except Exception as error:
        verdict = judge(error, cache_root(), cpus=resources.cpus, gpus=resources.gpus)
        if verdict.environment:
            raise end_study(verdict.line) from None
        # Its trials meet the error too, and fail by themselves.
        err.print(f"note: the cost of some trials is unknown: {verdict.line}", soft_wrap=True)
        return UNKNOWN


def _estimate_epoch(config: Config, measured: Measured, data: DataSet) -> float:
    """Estimate the seconds of an epoch from those of a step and of a validation batch."""
    rows = split_rows(data, config.split)
    batch_size = config.training.batch_size
    steps = ceil(len(rows.train) / batch_size)
    validation_batches = ceil(len(rows.validation) / batch_size)
    return steps * measured.step + validation_batches * measured.predict


def _count_feature_bytes(work: list[Work], measured: list[Measured], clips: int) -> int:
    """Count the bytes of features and encodings that trials share, equal ones once."""
    from avsc_core.weights.preparation import choose_pictures

    sizes = {}
    for item, its_cost in zip(work, measured, strict=True):
        config = item.config
        log_mel = config.log_mel
        # Of the normalisations only `peak` changes what is stored.
        settings = log_mel.model_dump(exclude={"normalise"})
        settings["peak"] = log_mel.normalise == "peak"
        value_bytes = 2 if log_mel.stored == "float16" else 4
        sizes[f"{settings}"] = clips * log_mel.frames * 128 * value_bytes

        pictures = choose_pictures(config)
        sizes[f"{pictures}"] = clips * pictures.frames * 3 * pictures.size**2

        # Frozen encoders keep a pooled encoding of each clip, or a sequence for a learned pooling.
        # Configurations that share encodings of one size are counted once.
        if its_cost.encodings:
            encoders = config.model_dump(include={"audio", "visual", "log_mel", "pictures"})
            sizes[f"{encoders} {its_cost.encodings}"] = clips * its_cost.encodings
    return sum(sizes.values())
