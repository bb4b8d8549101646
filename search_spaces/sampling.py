"""Values for the next trial, asked of an Optuna sampler and told how they did.

Optuna's study lives in memory and is rebuilt from the record at every start: finished trials are replayed with the
state they ended in (complete, pruned, failed), so that a value from a trial that was stopped early is never taken for a
full one. Dimensions are suggested one after another, so conditional ones cost nothing where they do not exist. Known
good points come first. `brute_force` is all points and nothing else: Optuna's own repeats them without end. Samplers
may propose what is known already, some without end; then a point drawn at random takes their place.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from search_spaces.domains import Choice, Domain, Float
from search_spaces.space import Space

optuna.logging.set_verbosity(optuna.logging.ERROR)

PROPOSALS = (
    5  # of a sampler, one after another, that bring nothing new before one is drawn at random
)
DRAWS = 1000  # at random that bring nothing new before a space counts as used up

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


Asked = tuple[int, dict[str, Any]]  # a trial's number, and its values
# Known trials are NSGA-II's first generation; by itself it breeds only from what it has asked for.
FIRST_GENERATION = NSGAIISampler._get_generation_key()


class Sampler:
    """One sampler over one space; `directions` has max or min for each metric, `first` the points to begin with."""

    def __init__(
        self,
        space: Space,
        name: str,
        seed: int,
        directions: Sequence[str],
        first: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.space, self.name, self.seed = space, name, seed
        self.points = chain(first, space.every() if name == "brute_force" else ())
        self.distributions = {
            key: to_distribution(domain) for key, domain in space.dimensions.items()
        }
        goals = [
            StudyDirection.MAXIMIZE if each == "max" else StudyDirection.MINIMIZE
            for each in directions
        ]
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ExperimentalWarning
            )  # of options that have stood for years
            self.study = optuna.create_study(sampler=SAMPLERS[name](seed), directions=goals)
        self.at_random = optuna.create_study(sampler=RandomSampler(seed))

    def ask(self, useless: Callable[[dict[str, Any]], bool] = lambda values: False) -> Asked | None:
        """(number to tell, values of the dimensions that exist), or None when the space is used up.

        Values that are `useless`, because they are known or no configuration, are passed over.
        """
        point = next((dict(point) for point in self.points if not useless(dict(point))), None)
        if point is None and self.name != "brute_force":
            for _ in range(PROPOSALS):
                number, values = self._proposed(self.study)
                if not useless(values):
                    return number, values
                self.tell(number, "failed", None)
            drawn = (self._proposed(self.at_random)[1] for _ in range(DRAWS))
            point = next((values for values in drawn if not useless(values)), None)
        if point is None:
            return None
        self.study.enqueue_trial(point)
        return self._proposed(self.study)

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
            system_attrs={FIRST_GENERATION: 0},
        )
        self.study.add_trial(trial)
        # It learns only from what it has asked for; of what is known otherwise it takes the best to begin with.
        if self.name == "cmaes" and state == "complete":
            self.study.sampler = CmaEsSampler(seed=self.seed, x0=self.study.best_params)

    def _proposed(self, study: optuna.Study) -> Asked:
        trial = study.ask()
        values: dict[str, Any] = {}
        for key, domain in self.space.dimensions.items():
            if self.space.active(key, values):
                values[key] = _suggest(trial, key, domain)
        return trial.number, values


def _suggest(trial: optuna.Trial, key: str, domain: Domain) -> Any:
    if isinstance(domain, Choice):
        return trial.suggest_categorical(key, domain.values)
    if isinstance(domain, Float):
        return trial.suggest_float(key, domain.low, domain.high, log=domain.log, step=domain.step)
    return trial.suggest_int(key, domain.low, domain.high, log=domain.log, step=domain.step)


def to_distribution(domain: Domain) -> BaseDistribution:
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
    "tpe_multivariate": lambda seed: TPESampler(
        seed=seed, multivariate=True, group=True, constant_liar=True
    ),
    "gp": lambda seed: GPSampler(seed=seed),
    "cmaes": lambda seed: CmaEsSampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(
        seed=seed, population_size=20
    ),  # its usual 50 is more than most studies have
    # Scrambled, so that a study that goes on, with another seed, does not begin the same sequence again.
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True, warn_asynchronous_seeding=False),
    "random": lambda seed: RandomSampler(seed=seed),
    "brute_force": lambda seed: RandomSampler(
        seed=seed
    ),  # never draws: all its points are told to it
}
