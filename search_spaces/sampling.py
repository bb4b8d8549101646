"""Values for the next trial, from an Optuna sampler that learns how earlier trials ended.

The Optuna study lives in memory. It is rebuilt from the record whenever a study starts again: its
trials are replayed with the state in which they ended (complete, pruned or failed), so that the
metric of a trial that was stopped early is never taken for that of a whole training. Known good
points come first. Dimensions are suggested one after another, and inactive ones not at all.

A study that was cut off goes on as if it had not been. So no random state lives from one proposal
to the next: each has a seed of its own, which follows from the seed of the search and the number of
the trial. CMA-ES and NSGA-II keep more than that with the trials they propose (how far their
distribution or their generations are); they are asked again for each trial of the record.

Two things differ from Optuna. `brute_force` gives every point once and then ends; Optuna's own
sampler of that name repeats points without end. And a sampler may propose values that are known
already, and some samplers do so for ever; then a random point takes the place of its proposal.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
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

Useless = Callable[[dict[str, Any]], bool]  # whether a point is known or no configuration

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
GOALS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}

# NSGA-II breeds only from trials that it has proposed itself. Marking the replayed ones as its
# first generation lets it breed from them too; Optuna has no public name for the mark.
FIRST_GENERATION = NSGAIISampler._get_generation_key()


# Where two samplers keep the values that they draw together; Optuna has no public names for it.
RELATIVE_VALUES = ("gp:relative_params:0", "tpe:relative_params:0")

# Samplers that keep with a trial what they need for the next one.
KEEPING = ("cmaes", "nsga2")


class Draw(NamedTuple):
    """What the random numbers of a proposal follow from."""

    seed: int  # of the search
    trial: int  # how many trials the search had asked for before
    attempt: int  # how many proposals for this trial were useless
    start: dict[str, Any] | None = None  # the point at which CMA-ES begins

    @property
    def own_seed(self) -> int:
        """A seed that no other proposal has."""
        sequence = np.random.SeedSequence((self.seed, self.trial, self.attempt))
        return int(sequence.generate_state(1)[0])


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
        self.asked = 0  # trials so far, those of the record included
        self.size = 0  # of the Optuna study, useless proposals included
        self.start: dict[str, Any] | None = None  # where CMA-ES begins
        self.points = chain(first, space.iterate_points() if name == "brute_force" else ())
        self.distributions = {key: to_distribution(d) for key, d in space.dimensions.items()}
        goals = [GOALS[direction] for direction in directions]
        self.study = optuna.create_study(directions=goals)

    def ask(self, useless: Useless = lambda values: False) -> Proposal | None:
        """Return the next trial, or None when the space is used up.

        Values that are `useless`, because they are known or make no configuration, are passed over.
        """
        proposal = self._ask(useless)
        if proposal is not None:
            self.asked += 1
        return proposal

    def ask_again(self, point: Mapping[str, Any], useless: Useless = lambda values: False) -> int:
        """Take up a trial of the record, at the place where `ask` had returned it.

        Returns the number under which the sampler wants to hear how it ended.
        """
        present = self.space.present(point)
        if self.name in KEEPING:
            proposal = self._ask(useless)
            if proposal is not None and proposal.values == present:
                self.asked += 1
                return proposal.number
            # The record is of an earlier version, or the file has other first points now.
            if proposal is not None:
                self.tell(proposal.number, "failed", None)
        self.asked += 1
        return self._add(present, TrialState.RUNNING)

    def tell(self, number: int, state: str, values: Sequence[float] | None) -> None:
        """Tell the sampler how a trial ended: complete with its metrics, pruned or failed."""
        self.study.tell(number, values if state == "complete" else None, STATES[state])

    def replay(self, point: Mapping[str, Any], state: str, values: Sequence[float] | None) -> None:
        """Tell the sampler of a trial that it has not proposed: an arm, or one that was known
        before."""
        self._add(self.space.present(point), STATES[state], values)

        # CMA-ES learns only from trials that it has proposed; of the others it takes the best as
        # its starting point.
        if self.name == "cmaes" and state == "complete":
            self.start = self.study.best_params

    def _ask(self, useless: Useless) -> Proposal | None:
        # Known points come first; `brute_force` has nothing else.
        point = _find_useful(map(dict, self.points), useless)

        # Then the sampler proposes, and hears of what was useless as of failed trials.
        if point is None and self.name != "brute_force":
            for attempt in range(PROPOSALS):
                proposal = self._propose(self.study, self.name, attempt)
                if not useless(proposal.values):
                    return proposal
                self.tell(proposal.number, "failed", None)
            point = _find_useful(self._draw_points(), useless)

        if point is None:
            return None
        self.study.enqueue_trial(point)
        return self._propose(self.study, self.name, attempt=0)

    def _draw_points(self) -> Iterator[dict[str, Any]]:
        """Yield random points."""
        study = optuna.create_study()
        for number in range(DRAWS):
            yield self._propose(study, "random", PROPOSALS + number).values

    def _propose(self, study: optuna.Study, sampler: str, attempt: int) -> Proposal:
        """Ask an Optuna study for a trial, and for the value of each active dimension."""
        study.sampler = self._make_sampler(sampler, attempt)
        trial = study.ask()
        if study is self.study:
            self.size += 1
        values: dict[str, Any] = {}
        for key, domain in self.space.dimensions.items():
            if self.space.is_active(key, values):
                values[key] = _suggest(trial, key, domain)

        # GP and the multivariate TPE keep with a running trial also their values of dimensions that
        # have turned out inactive. The record has no such values, so nothing may depend on them.
        for key in RELATIVE_VALUES:
            study._storage.set_trial_system_attr(trial._trial_id, key, "")
        return Proposal(trial.number, values)

    def _make_sampler(self, name: str, attempt: int) -> BaseSampler:
        """Make a sampler of Optuna's for one proposal."""
        draw = Draw(self.seed, self.asked, attempt, self.start)
        with warnings.catch_warnings():
            # Optuna warns of options such as TPE's `group`, experimental for years.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return SAMPLERS[name](draw)

    def _add(
        self, present: Mapping[str, Any], state: TrialState, values: Sequence[float] | None = None
    ) -> int:
        """Add a trial to the Optuna study. Returns its number there."""
        trial = create_trial(
            state=state,
            values=values if state is TrialState.COMPLETE else None,
            params=dict(present),
            distributions={key: self.distributions[key] for key in present},
            system_attrs={FIRST_GENERATION: 0},
        )
        self.study.add_trial(trial)
        self.size += 1
        return self.size - 1


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


def _build_qmc(draw: Draw) -> BaseSampler:
    """Build a sampler of the point of a scrambled Sobol sequence that has the trial's number.

    A second attempt takes the point of another sequence.
    """
    sequence = Draw(draw.seed, trial=0, attempt=draw.attempt)
    sampler = QMCSampler(
        seed=sequence.own_seed,
        scramble=True,
        independent_sampler=RandomSampler(draw.own_seed),
        warn_asynchronous_seeding=False,
    )
    # Optuna counts the points that it has given in the study, which the record does not have.
    sampler._find_sample_id = lambda study, search_space: draw.trial  # type: ignore[method-assign]
    return sampler


# Names as in catalogue.SAMPLER_NAMES.
SAMPLERS: dict[str, Callable[[Draw], BaseSampler]] = {
    # `constant_liar` keeps trials that run side by side apart. The first ten trials of TPE are
    # random; replayed ones count among them.
    "tpe": lambda draw: TPESampler(seed=draw.own_seed, constant_liar=True),
    "tpe_multivariate": lambda draw: TPESampler(
        seed=draw.own_seed, multivariate=True, group=True, constant_liar=True
    ),
    "gp": lambda draw: GPSampler(seed=draw.own_seed),
    "cmaes": lambda draw: CmaEsSampler(seed=draw.own_seed, x0=draw.start),
    # Its default population of 50 is more trials than most studies have.
    "nsga2": lambda draw: NSGAIISampler(seed=draw.own_seed, population_size=20),
    "qmc": _build_qmc,
    "random": lambda draw: RandomSampler(draw.own_seed),
    # It proposes nothing itself: `Sampler.ask` gives every point.
    "brute_force": lambda draw: RandomSampler(draw.own_seed),
}
