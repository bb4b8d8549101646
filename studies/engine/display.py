"""What a person sees while a study runs: a live table in a terminal, plain lines elsewhere."""

from statistics import fmean

from rich.live import Live
from rich.table import Table

from avsc_core.terminal import err
from studies.engine.strategy import Strategy
from studies.study.plan import PlannedTrial


class Display:
    """The running trials with their latest figures, how many are over, and the time left."""

    def __init__(self, strategy: Strategy, workers: int) -> None:
        self.strategy = strategy
        self.metric = strategy.plan.study.metric
        self.done = strategy.reused  # trials that are over, those of the record included
        self.workers = workers
        # Key -> (trial, epoch, value of the metric).
        self.running: dict[str, tuple[PlannedTrial, int, float | None]] = {}
        self.seconds: list[float] = []  # of training, of each trial that is over
        # Where there is no terminal, a transient live table prints nothing.
        self.live = Live(console=err, transient=True, refresh_per_second=2)

    def update(self, trial: PlannedTrial, epoch: int, value: float | None) -> None:
        """Show that a trial has started (epoch 0) or ended an epoch."""
        self.running[trial.key] = (trial, epoch, value)
        self.live.update(self._make_table())

    def finish(
        self, trial: PlannedTrial, outcome: str, value: float | None, seconds: float
    ) -> None:
        """Show that a trial is over."""
        self.running.pop(trial.key, None)
        self.seconds.append(seconds)
        self.done += 1
        figure = "" if value is None else f" {self.metric} {value:.4f}"
        progress = f"{self.done}/{self.strategy.total}"
        line = f"{progress} {outcome:<8} {trial.label}{figure}{self._estimate_left()}"
        err.print(line, soft_wrap=True)
        self.live.update(self._make_table())

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
        left = fmean(self.seconds) * remaining / self.workers
        return f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"

    def _make_table(self) -> Table:
        title = f"{self.done}/{self.strategy.total} trials{self._estimate_left()}"
        table = Table("trial", "epoch", self.metric, title=title)
        for trial, epoch, value in self.running.values():
            figure = "" if value is None else f"{value:.4f}"
            table.add_row(trial.label, f"{epoch}/{trial.config.training.epochs}", figure)
        return table
