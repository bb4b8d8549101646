"""What a person sees while a study runs and when it ends: a live table in a terminal, plain lines elsewhere."""

from rich.live import Live
from rich.table import Table

from avsc_core.terminal import err
from studies.study.plan import PlannedTrial


class Display:
    """The running trials with their latest figures, how many are over, and an estimate of the time left."""

    def __init__(self, metric: str, total: int, reused: int, workers: int) -> None:
        self.metric, self.total, self.done, self.workers = metric, total, reused, workers
        self.running: dict[
            str, tuple[PlannedTrial, int, float | None]
        ] = {}  # key -> (trial, epoch, value)
        self.seconds: list[float] = []  # of training, of each trial that is over
        self.live = (
            Live(console=err, transient=True, refresh_per_second=2) if err.is_terminal else None
        )

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def update(self, trial: PlannedTrial, epoch: int, value: float | None) -> None:
        """A trial started (epoch 0) or ended an epoch."""
        self.running[trial.key] = (trial, epoch, value)
        if self.live:
            self.live.update(self._table())

    def finish(
        self, trial: PlannedTrial, outcome: str, value: float | None, seconds: float, total: int
    ) -> None:
        """A trial is over."""
        self.running.pop(trial.key, None)
        self.seconds.append(seconds)
        self.done, self.total = self.done + 1, total
        shown = "" if value is None else f" {self.metric} {value:.4f}"
        line = f"{self.done}/{self.total} {outcome:<8} {trial.label}{shown}{self._left()}"
        (self.live.console if self.live else err).print(line, soft_wrap=True)
        if self.live:
            self.live.update(self._table())

    def _left(self) -> str:
        """The estimate: what is still to come takes as long as what is over did on average."""
        remaining = self.total - self.done
        if not self.seconds or remaining <= 0:
            return ""
        left = sum(self.seconds) / len(self.seconds) * remaining / self.workers
        return f", about {left / 60:.0f} min left" if left > 90 else f", about {left:.0f} s left"

    def _table(self) -> Table:
        table = Table(
            "trial", "epoch", self.metric, title=f"{self.done}/{self.total} trials{self._left()}"
        )
        for trial, epoch, value in self.running.values():
            shown = "" if value is None else f"{value:.4f}"
            table.add_row(trial.label, f"{epoch}/{trial.config.training.epochs}", shown)
        return table
