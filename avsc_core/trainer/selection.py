"""This module chooses the epochs that a trial's figures are taken from.

In: after every epoch the (N,S) probabilities of the N validation clips. Out: `Selected`, the
figures by which the trial counts, the probabilities behind them, and how many epochs a retraining
runs. A study says by which rule:

    crossfit   each clip at the epoch that is best on the other half of the locations (the default)
    best       all clips at the epoch that is best on all of them
    last       all clips at the last epoch
    last 3     the mean of the figures of the last three epochs

The paper does not say how it chose its epoch. The figure of the best epoch is a maximum over
epochs: it is too good, and the more so the more a trial's curve jitters. So arms that are equally
good seem to differ. With crossfit no clip takes part in the choice of its own epoch, and every clip
is still scored once. `python -m benchmarks coverage` measures all four rules.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from avsc_core.metrics import compute_deciding_scores, compute_scores, is_better

LAST_EPOCHS = 3  # that rule `last 3` averages


class Candidate(NamedTuple):
    """An epoch that may be chosen."""

    epoch: int  # from 1
    metrics: dict[str, float]  # by which it is compared; empty for a half without clips
    probability: Tensor  # (N,S) of all validation clips


class Selected(NamedTuple):
    """What a trial counts with."""

    metrics: dict[str, float]  # val_acc, val_logloss and the other scores
    probability: ndarray  # (N,S); with `last 3` (3N,S), one epoch after another
    epochs: int  # that a retraining runs


class Selection:
    """The candidates among the epochs so far, for every rule at once."""

    def __init__(self, metric: str, scenes: ndarray, halves: ndarray) -> None:
        """Epochs are compared by `metric`; `scenes` and `halves` are (N,), of validation clips."""
        self.metric = metric
        self.scenes = scenes
        self.halves = halves  # 0 or 1: `deal_halves`
        self.best: Candidate | None = None
        self.best_of_halves: list[Candidate | None] = [None, None]
        self.last: list[Candidate] = []

    def add(self, epoch: int, metrics: dict[str, float], probability: ndarray) -> None:
        """Take the next epoch's metrics and (N,S) probabilities into account."""
        candidate = Candidate(epoch, metrics, torch.from_numpy(probability))
        self.best = self._choose(self.best, candidate)
        for half, best in enumerate(self.best_of_halves):
            rows = self.halves == half
            figures = {}
            if rows.any():
                figures = compute_deciding_scores(probability[rows], self.scenes[rows])
            of_half = candidate._replace(metrics=add_prefix(figures))
            self.best_of_halves[half] = self._choose(best, of_half)
        self.last = [*self.last, candidate][-LAST_EPOCHS:]

    def select(self, rule: str) -> Selected:
        """Return what the trial counts with by a rule, after one epoch or more."""
        assert self.best is not None
        tables = TABLES[rule](self)
        scores = [score_clips(table, self.scenes) for table in tables]
        means = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
        at_end = rule.startswith("last")
        epochs = self.last[-1].epoch if at_end else self.best.epoch
        return Selected(means, np.concatenate(tables), epochs)

    def summarise(self, rule: str) -> dict[str, float]:
        """Return the summary metrics of a trial: selected_* by a rule, best_* of the best epoch."""
        assert self.best is not None
        selected = self.select(rule)
        chosen = {**selected.metrics, "epoch": selected.epochs}
        best = {**self.best.metrics, "epoch": self.best.epoch}
        summary = {f"selected_{name}": float(value) for name, value in chosen.items()}
        return summary | {f"best_{name}": float(value) for name, value in best.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the candidates for a checkpoint."""
        return {
            "best": _pack(self.best),
            "best_of_halves": [_pack(candidate) for candidate in self.best_of_halves],
            "last": [_pack(candidate) for candidate in self.last],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the candidates from a checkpoint."""
        self.best = Candidate(**state["best"])
        self.best_of_halves = [Candidate(**each) for each in state["best_of_halves"]]
        self.last = [Candidate(**each) for each in state["last"]]

    def _choose(self, old: Candidate | None, new: Candidate) -> Candidate:
        """Choose the better of two epochs; of equals the earlier, without figures the later."""
        if old is None or not new.metrics or is_better(self.metric, new.metrics, old.metrics):
            return new
        return old


def deal_halves(scenes: ndarray, locations: Sequence[str]) -> ndarray:
    """Deal the locations of N clips into two halves, as equal as they come; (N,) of 0 and 1.

    `scenes` is (N,), `locations` has N names. Within each scene the locations go to the halves by
    turns, in alphabetical order, so that the same split always has the same halves. The turn goes
    on from scene to scene: scenes with a single location go to the halves by turns, too, and each
    is scored at an epoch that other scenes have chosen. A location that several scenes share stands
    in one half with all its clips. With a single location in all, one half is empty, and the clips
    of the other are scored at the last epoch.
    """
    half_of: dict[str, int] = {}
    for _, location in sorted(set(zip(scenes.tolist(), locations, strict=True))):
        half_of.setdefault(location, len(half_of) % 2)
    return np.array([half_of[location] for location in locations])


def score_clips(probability: ndarray, scenes: ndarray) -> dict[str, float]:
    """Score (N,S) probabilities of clips of the scenes (N,) under the names of the record."""
    return add_prefix(compute_scores(probability, scenes))


def add_prefix(figures: Mapping[str, float]) -> dict[str, float]:
    """Return figures of validation clips under the names of the record."""
    return {f"val_{name}": value for name, value in figures.items()}


def _join_halves(selection: Selection) -> list[ndarray]:
    """Put the (N,S) probabilities together, each half at the epoch that the other has chosen."""
    first, second = selection.best_of_halves
    assert first is not None
    assert second is not None
    is_first = selection.halves[:, None] == 0  # (N,1)
    return [np.where(is_first, second.probability.numpy(), first.probability.numpy())]


def _take_best(selection: Selection) -> list[ndarray]:
    assert selection.best is not None
    return [selection.best.probability.numpy()]


def _take_last(selection: Selection) -> list[ndarray]:
    return [selection.last[-1].probability.numpy()]


def _take_last_few(selection: Selection) -> list[ndarray]:
    return [candidate.probability.numpy() for candidate in selection.last]


def _pack(candidate: Candidate | None) -> dict[str, Any] | None:
    """Turn a candidate into what a checkpoint may hold."""
    return candidate and candidate._asdict()


# Rule -> the (N,S) probabilities of each epoch, or of the two epochs put together, that it scores.
TABLES: dict[str, Callable[[Selection], list[ndarray]]] = {
    "crossfit": _join_halves,
    "best": _take_best,
    "last": _take_last,
    "last 3": _take_last_few,
}
