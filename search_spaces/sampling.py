"""Values for the next trial, from an Optuna sampler that learns how earlier trials ended.

The Optuna study lives in memory. It is rebuilt from the record whenever a study starts again: its
trials are replayed with the state in which they ended (complete, pruned or failed), so that the
metric of a trial that was stopped early is never taken for that of a whole training. Known good
points come first. Dimensions are suggested one after another, and inactive ones not at all.

Two things differ from Optuna. `brute_force` gives every point once and then ends; Optuna's own
sampler of that name repeats points without end. And a sampler may propose values that are known
already, and some samplers do so for ever; then a random point takes the place of its proposal.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, NamedTuple

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

PROPOSALS = 5  # useless proposals in a row before a point is drawn at random
DRAWS = 1000  # useless random points in a row before the space counts as used up

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
GOALS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}

# NSGA-II breeds only from trials that it has proposed itself. Marking the replayed ones as its
# first generation lets it breed from them too; Optuna has no public name for the mark.
FIRST_GENERATION = NSGAIISampler._get_generation_key()


class Proposal(NamedTuple):
    """The values of a trial, and the number under which the sampler wants to hear how it ended."""

    number: int
    values: dict[str, Any]  # of the active dimensions


class Sampler:
    """One sampler over one space.

    `directions` has max or min for each metric; `first` has the points to begin with.
    """

    def __init__(
        self,
        space: Space,
        name: str,
        seed: int,
        directions: Sequence[str],
        first: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self.space = space
        self.name = name
        self.seed = seed
        self.points = chain(first, space.iterate_points() if name == "brute_force" else ())
        self.distributions = {key: to_distribution(d) for key, d in space.dimensions.items()}

        with warnings.catch_warnings():
            # Optuna warns of options such as TPE's `group`, experimental for years.
            warnings.simplefilter("ignore", ExperimentalWarning)
            goals = [GOALS[direction] for direction in directions]
            self.study = optuna.create_study(sampler=SAMPLERS[name](seed), directions=goals)
        self.at_random = optuna.create_study(sampler=RandomSampler(seed))

    def ask(
        self, useless: Callable[[dict[str, Any]], bool] = lambda values: False
    ) -> Proposal | None:
        """Return the next trial, or None when the space is used up.

        Values that are `useless`, because they are known or make no configuration, are passed over.
        """
        # Known points come first; `brute_force` has nothing else.
        point = _find_useful(map(dict, self.points), useless)

        # Then the sampler proposes, and hears of what was useless as of failed trials.
        if point is None and self.name != "brute_force":
            for _ in range(PROPOSALS):
                proposal = self._propose(self.study)
                if not useless(proposal.values):
                    return proposal
                self.tell(proposal.number, "failed", None)
            drawn = (self._propose(self.at_random).values for _ in range(DRAWS))
            point = _find_useful(drawn, useless)

        if point is None:
            return None
        self.study.enqueue_trial(point)
        return self._propose(self.study)

    def tell(self, number: int, state: str, values: Sequence[float] | None) -> None:
        """Tell the sampler how a trial ended: complete with its metrics, pruned or failed."""
        self.study.tell(number, values if state == "complete" else None, STATES[state])

    def replay(self, point: Mapping[str, Any], state: str, values: Sequence[float] | None) -> None:
        """Tell the sampler of a trial that it has not proposed: an arm, or one from the record."""
        present = self.space.present(point)
        trial = create_trial(
            state=STATES[state],
            values=values if state == "complete" else None,
            params=present,
            distributions={key: self.distributions[key] for key in present},
            system_attrs={FIRST_GENERATION: 0},
        )
        self.study.add_trial(trial)

        # CMA-ES learns only from trials that it has proposed; of the others it takes the best as
        # its starting point.
        if self.name == "cmaes" and state == "complete":
            self.study.sampler = CmaEsSampler(seed=self.seed, x0=self.study.best_params)

    def _propose(self, study: optuna.Study) -> Proposal:
        """Ask an Optuna study for a trial, and for the value of each active dimension."""
        trial = study.ask()
        values: dict[str, Any] = {}
        for key, domain in self.space.dimensions.items():
            if self.space.is_active(key, values):
                values[key] = _suggest(trial, key, domain)
        return Proposal(trial.number, values)


def _find_useful(
    points: Iterator[dict[str, Any]], useless: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """Return the next of `points` that is not useless, or None."""
    return next((point for point in points if not useless(point)), None)


def _suggest(trial: optuna.Trial, key: str, domain: Domain) -> Any:
    """Let an Optuna trial suggest a value of a domain."""
    if isinstance(domain, Choice):
        return trial.suggest_categorical(key, domain.values)
    suggest = trial.suggest_float if isinstance(domain, Float) else trial.suggest_int
    return suggest(key, **asdict(domain))  # our names of bounds, scale and step are Optuna's


def to_distribution(domain: Domain) -> BaseDistribution:
    """Return a domain as Optuna's distribution."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.values)
    distribution = FloatDistribution if isinstance(domain, Float) else IntDistribution
    return distribution(**asdict(domain))


# Names as in catalogue.SAMPLER_NAMES.
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    # `constant_liar` keeps trials that run side by side apart. The first ten trials of TPE are
    # random; replayed ones count among them.
    "tpe": lambda seed: TPESampler(seed=seed, constant_liar=True),
    "tpe_multivariate": lambda seed: TPESampler(
        seed=seed, multivariate=True, group=True, constant_liar=True
    ),
    "gp": lambda seed: GPSampler(seed=seed),
    "cmaes": lambda seed: CmaEsSampler(seed=seed),
    # Its default population of 50 is more trials than most studies have.
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    # Scrambled, so that a study that starts again with another seed gets another sequence.
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True, warn_asynchronous_seeding=False),
    "random": RandomSampler,
    # It proposes nothing itself: `Sampler.ask` gives every point.
    "brute_force": RandomSampler,
}
