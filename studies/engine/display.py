"""What a person sees while a study runs: a live table in a terminal, plain lines elsewhere."""

import time
from statistics import fmean
from typing import NamedTuple

from rich.live import Live
from rich.table import Table

from avsc_core.terminal import err, format_duration
from studies.engine.strategy import Strategy
from studies.study.plan import PlannedTrial

LATE = 10.0  # seconds past the estimate, from which it is no longer shown


class Shown(NamedTuple):
    """A trial that runs, as of its last epoch."""

    trial: PlannedTrial
    epoch: int  # 0 before the first one has ended
    value: float | None  # of the metric
    when: float  # the epoch ended, by time.monotonic


class Display:
    """The running trials with their latest figures, how many are over, and the time left."""

    def __init__(self, strategy: Strategy, workers: int) -> None:
        self.strategy = strategy
        self.metric = strategy.plan.study.metric
        self.done = strategy.reused  # trials that are over, those of the record included
        self.workers = workers
        self.running: dict[str, Shown] = {}  # by key
        self.seconds: list[float] = []  # of training, of each trial that is over
        self.last_end = time.monotonic()  # of a trial
        # Where there is no terminal, a transient live table prints nothing. It is made anew at each
        # refresh: a trial whose worker hangs reports nothing that would change it.
        table = self._make_table
        self.live = Live(console=err, transient=True, refresh_per_second=2, get_renderable=table)

    def update(self, trial: PlannedTrial, epoch: int, value: float | None) -> None:
        """Show that a trial has started (epoch 0) or ended an epoch."""
        self.running[trial.key] = Shown(trial, epoch, value, time.monotonic())

    def finish(
        self,
        trial: PlannedTrial,
        outcome: str,
        value: float | None,
        seconds: float,
        why: str,  # in a line, where it failed; else empty
    ) -> None:
        """Show that a trial is over."""
        self.running.pop(trial.key, None)
        self.seconds.append(seconds)
        self.done += 1
        self.last_end = time.monotonic()
        figure = f" {self.metric} {value:.4f}" if value is not None else ""
        progress = f"{self.done}/{self.strategy.total}"
        ending = f": {why}" if why else figure
        line = f"{progress} {outcome:<8} {trial.label}{ending}{self._estimate_left()}"
        err.print(line, soft_wrap=True)

    def skip(self, trial: PlannedTrial, source: str) -> None:
        """Show that a trial was taken over from study `source`."""
        self.done += 1
        line = f"{self.done}/{self.strategy.total} complete {trial.label}, taken over from {source}"
        err.print(line, soft_wrap=True)

    def _estimate_left(self) -> str:
        """Say how long the rest takes if it takes as long as the average trial so far."""
        remaining = self.strategy.total - self.done  # as far as the study is planned by now
        if not self.seconds or remaining <= 0:
            return ""
        passed = time.monotonic() - self.last_end
        left = fmean(self.seconds) * remaining / self.workers - passed
        if left < -LATE:
            return ", later than expected"
        left = max(left, 0.0)
        return f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"

    def _make_table(self) -> Table:
        title = f"{self.done}/{self.strategy.total} trials{self._estimate_left()}"
        table = Table("trial", "epoch", self.metric, "epoch ended", title=title)
        for trial, epoch, value, when in list(self.running.values()):  # a thread draws
            figure = "" if value is None else f"{value:.4f}"
            # A trial that has just been given to a worker waits for it, or trains its first epoch.
            ago = f"{format_duration(time.monotonic() - when)} ago" if epoch else ""
            done = f"{epoch}/{trial.config.training.epochs}" if epoch else "begins"
            table.add_row(trial.label, done, figure, ago)
        return table
