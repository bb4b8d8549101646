"""Values for the next trial, asked of an Optuna sampler and told how they did.

Optuna's study lives in memory and is rebuilt from the record at every start: finished trials are replayed with the
state they ended in (complete, pruned, failed), so that a value from a trial that was stopped early is never taken for a
full one. Dimensions are suggested one after another, so conditional ones cost nothing where they do not exist. Known
good points come first. `brute_force` is all points and nothing else: Optuna's own repeats them without end.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from search_spaces.domains import Choice, Domain, Float
from search_spaces.space import Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class Sampler:
    """One sampler over one space; `directions` has max or min for each metric, `first` the points to begin with."""

    def __init__(
        self, space: Space, name: str, seed: int, directions: Sequence[str], first: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self.space, self.all = space, name == "brute_force"
        self.points = chain(first, space.every() if self.all else ())
        self.distributions = {key: distribution(domain) for key, domain in space.dimensions.items()}
        goals = [StudyDirection.MAXIMIZE if each == "max" else StudyDirection.MINIMIZE for each in directions]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of options that have stood for years
            self.study = optuna.create_study(sampler=SAMPLERS[name](seed), directions=goals)

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """(number to tell, values of the dimensions that exist), or None when every point has been asked for."""
        point = next(self.points, None)
        if point is not None:
            self.study.enqueue_trial(dict(point))
        elif self.all:
            return None
        trial = self.study.ask()
        values: dict[str, Any] = {}
        for key, domain in self.space.dimensions.items():
            if self.space.active(key, values):
                values[key] = _suggest(trial, key, domain)
        return trial.number, values

    def tell(self, number: int, state: str, values: Sequence[float] | None) -> None:
        """How the trial ended: complete with its value of each metric, pruned or failed."""
        self.study.tell(number, values if state == "complete" else None, STATES[state])

    def replay(self, point: Mapping[str, Any], state: str, values: Sequence[float] | None) -> None:
        """Add a trial that was not asked for here: an arm, or one from the record."""
        present = self.space.present(point)
        trial = create_trial(
            state=STATES[state],
            values=values if state == "complete" else None,
            params=present,
            distributions={key: self.distributions[key] for key in present},
        )
        self.study.add_trial(trial)


def _suggest(trial: optuna.Trial, key: str, domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return trial.suggest_categorical(key, domain.values)
    if isinstance(domain, Float):
        return trial.suggest_float(key, domain.low, domain.high, log=domain.log, step=domain.step)
    return trial.suggest_int(key, domain.low, domain.high, log=domain.log, step=domain.step)


def distribution(domain: Domain) -> BaseDistribution:
    """A domain as Optuna's distribution."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    if isinstance(domain, Float):
        return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
    return IntDistribution(domain.low, domain.high, log=domain.log, step=domain.step)


ONE_METRIC = ("cmaes",)  # cannot take two

# constant_liar keeps trials that run side by side apart; the first ten trials of TPE are random, replayed ones included
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed, constant_liar=True),
    "tpe_multivariate": lambda seed: TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True),
    "gp": lambda seed: GPSampler(seed=seed),
    "cmaes": lambda seed: CmaEsSampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(seed=seed),
    "qmc": lambda seed: QMCSampler(seed=seed, warn_asynchronous_seeding=False),
    "random": lambda seed: RandomSampler(seed=seed),
    "brute_force": lambda seed: RandomSampler(seed=seed),  # never draws: all its points are told to it
}
