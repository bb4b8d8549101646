"""The median rule, which stops a trial whose best value is below what the others had on average.

After Golovin et al. 2017, "Google Vizier": at an epoch, a trial is stopped when its best value so
far is worse than the median, over the other trials that came as far, of the mean of their values up
to this epoch. Ray's MedianStoppingRule decides the same, but from all reports of all trials anew at
every report, which takes seconds a report at 10,000 trials. Here the means are kept in order.

It also counts a report twice when a continued trial repeats its checkpoint's epoch; here an epoch
counts once, so that a trial that was killed is judged as if it had not been.
"""

import math
from bisect import bisect_left, insort
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from ray.tune.schedulers import FIFOScheduler

FEWEST = 3  # other trials, without which nobody is judged; Ray's default


@dataclass
class Course:
    """How a trial has gone so far; of its values, more is better."""

    epoch: int = 0  # the last one that it reported
    best: float = -math.inf
    total: float = 0.0  # of its values since the end of the grace period
    count: int = 0  # of these
    means: dict[int, float] = field(default_factory=dict)  # epoch -> mean of the values up to it


class MedianRule(FIFOScheduler):  # type: ignore[misc]
    """The median rule, as a scheduler of Ray's."""

    def __init__(self, metric: str, mode: str, grace_epochs: int) -> None:
        super().__init__()
        self._metric = metric  # the name that Ray gives it
        self.sign = 1 if mode == "max" else -1
        self.grace_epochs = grace_epochs
        self.courses: dict[Any, Course] = defaultdict(Course)  # by trial
        self.means: dict[int, list[float]] = defaultdict(list)  # epoch -> of all trials, in order

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Judge a trial at the end of an epoch."""
        course = self._take_in(trial, result)
        median = self._find_median_of_others(course, result["epoch"])
        is_poor = median is not None and course.best < median
        return str(self.STOP if is_poor else self.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Take in the last report of a trial, which is not judged."""
        self._take_in(trial, result)

    def _take_in(self, trial: Any, result: dict[str, Any]) -> Course:
        """Take in a report, if it is of a later epoch than those before."""
        course = self.courses[trial]
        epoch = result["epoch"]
        if epoch <= course.epoch:
            return course
        # A trial without a report of an epoch is there with its mean of the epochs before.
        for missed in range(course.epoch + 1, epoch):
            self._note_mean(course, missed)

        value = self.sign * result[self._metric]
        course.epoch = epoch
        course.best = max(course.best, value)
        if epoch >= self.grace_epochs:
            course.total += value
            course.count += 1
            self._note_mean(course, epoch)
        return course

    def _note_mean(self, course: Course, epoch: int) -> None:
        """Note the mean of a trial's values up to an epoch, if it has any since the grace
        period."""
        if course.count:
            mean = course.total / course.count
            course.means[epoch] = mean
            insort(self.means[epoch], mean)

    def _find_median_of_others(self, course: Course, epoch: int) -> float | None:
        """Find the median of the other trials' means at an epoch; None for too few of them."""
        means = self.means[epoch]
        others = len(means) - 1
        if others < FEWEST or epoch not in course.means:
            return None

        # The places of the others, where the trial's own mean is passed over.
        own = bisect_left(means, course.means[epoch])
        middle = [others // 2, (others - 1) // 2]
        return sum(means[place + (place >= own)] for place in middle) / 2
