"""How often do our 95 % intervals hold the truth, and how often does a percentile bootstrap?

The figures are simulated: ten scenes with three locations of six clips each, as in TAU's validation
part. They vary by location, by seed, by both together and by clip, in all scenes or, as with good
models, in two. Each row of the table has its own standard deviations and 2,000 simulated studies.
It shows the share of intervals that hold the truth (0.95 is right), and the mean width of ours as a
multiple of the bootstrap's. `epochs.py` asks the same of figures whose epoch has been selected.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from avsc_core.evaluation.intervals import Clips, estimate
from benchmarks import epochs
from benchmarks.report import keep

STUDIES = 2000
DRAWS = 400  # of the bootstrap

SCENES = 10
LOCATIONS = 3  # of each scene
EACH = 6  # clips of each location


class Spread(NamedTuple):
    """The standard deviations of a simulated figure."""

    locations: float
    seeds: float
    both: float
    clips: float


SPREADS = (
    Spread(locations=1.0, seeds=0.0, both=0.0, clips=1.0),
    Spread(locations=1.0, seeds=0.3, both=0.5, clips=1.0),
    Spread(locations=0.3, seeds=0.3, both=1.0, clips=1.0),
    Spread(locations=0.2, seeds=0.5, both=0.2, clips=1.0),
    Spread(locations=0.0, seeds=0.0, both=0.0, clips=1.0),
)


def main() -> None:
    """Simulate every case and keep the result."""
    rows = [measure(*case) for case in list_cases()]
    question = "95 % intervals that hold the truth, of 2,000 simulated studies"
    keep("coverage", question, rows)
    epochs.main()


def list_cases() -> Iterator[tuple[int, Spread, int]]:
    """List the cases: number of seeds, spread, number of scenes that vary."""
    for seeds in (1, 2, 3, 5):
        for spread in SPREADS:
            # One training does not show how trainings differ.
            if seeds > 1 or not spread.seeds:
                yield seeds, spread, SCENES

    for seeds in (1, 3, 5):
        yield seeds, SPREADS[0], 2


def measure(seeds: int, spread: Spread, varying: int) -> dict[str, Any]:
    """Simulate the studies of one row."""
    rng = np.random.default_rng(seeds)
    clips = make_clips()

    # The low and high ends of each study's interval, by both methods.
    ours = np.empty((STUDIES, 2))
    rival = np.empty((STUDIES, 2))
    for study in range(STUDIES):
        values = simulate(rng, clips, seeds, spread, varying)
        figure = estimate(values, clips, "acc")
        ours[study] = figure.low, figure.high
        rival[study] = draw_bootstrap(rng, values)

    return {
        "seeds": seeds,
        "scenes": varying,
        "locations": spread.locations,
        "trainings": spread.seeds,
        "both": spread.both,
        "clips": spread.clips,
        "ours covers": find_share_that_holds_zero(ours),
        "bootstrap covers": find_share_that_holds_zero(rival),
        "times as wide": float(np.diff(ours).mean() / np.diff(rival).mean()),
    }


def make_clips() -> Clips:
    """Make the clips of every simulated study."""
    scenes = np.repeat(np.arange(SCENES), LOCATIONS * EACH)  # (N,)
    places = np.repeat(np.arange(SCENES * LOCATIONS), EACH)  # (N,)
    names = tuple(map(str, range(len(scenes))))
    return Clips(names=names, scenes=scenes, places=places)


def simulate(
    rng: np.random.Generator,
    clips: Clips,
    seeds: int,
    spread: Spread,
    varying: int,
) -> np.ndarray:
    """Simulate (R,N) values with mean 0, all of them 0 except in the scenes that vary."""
    # What varies by location, by both together and by seed: L locations, R seeds.
    count = SCENES * LOCATIONS
    by_location = rng.normal(0, spread.locations, (1, count))
    by_both = rng.normal(0, spread.both, (seeds, count))
    by_seed = rng.normal(0, spread.seeds, (seeds, 1))
    values = by_location + by_both + by_seed  # (R,L)

    by_clip = rng.normal(0, spread.clips, (seeds, len(clips.names)))  # (R,N)
    table: np.ndarray = values[:, clips.places] + by_clip
    table[:, clips.scenes >= varying] = 0.0
    return table


def draw_bootstrap(rng: np.random.Generator, values: np.ndarray) -> tuple[float, float]:
    """Draw as many locations within each scene, and as many seeds; return percentiles of means."""
    seeds = len(values)
    places = values.reshape(seeds, SCENES, LOCATIONS, EACH).mean(3)  # (R,S,L)

    # How often each location and each seed is drawn.
    drawn_places = rng.integers(0, LOCATIONS, (DRAWS, SCENES, LOCATIONS))
    drawn_seeds = rng.integers(0, seeds, (DRAWS, seeds))
    place_counts = (drawn_places[..., None] == np.arange(LOCATIONS)).sum(2)  # (draws,S,L)
    seed_counts = (drawn_seeds[..., None] == np.arange(seeds)).sum(1)  # (draws,R)

    # The mean of each draw, over seeds and locations.
    sums = np.einsum("dr,rsl,dsl->d", seed_counts, places, place_counts)
    means = sums / (seeds * SCENES * LOCATIONS)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def find_share_that_holds_zero(ends: np.ndarray) -> float:
    """Return the share of intervals, (N,2), that hold the true value 0."""
    holds = (ends[:, 0] <= 0) & (ends[:, 1] >= 0)
    return float(holds.mean())


if __name__ == "__main__":
    main()
