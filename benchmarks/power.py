"""Is the power that a report states the rate at which differences are found?

Differences are simulated as in `coverage`: ten scenes with three locations of six clips each, which
vary by location, by seed, by both together and by clip. Each row has its own true difference and
2,000 simulated studies of a few seeds. Every study states three things, and each is tried:

    power stated     how likely a study like it finds the true difference; beside it the rate at
                     which these studies find it
    smallest         the smallest difference that it finds with 80 % power; beside it the rate at
                     which new studies with that true difference find it (0.8 is right)
    seeds            the number of seeds that find the true difference with 80 % power; beside it
                     the rate at which new studies with so many seeds find it (at least 0.8 is
                     right, because a study never states fewer seeds than it has)
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from avsc_core.evaluation.intervals import Clips, estimate, estimate_variance
from avsc_core.evaluation.power import compute_power, count_seeds, find_smallest_difference
from benchmarks.coverage import LOCATIONS, SCENES, STUDIES, Spread, make_clips, simulate
from benchmarks.report import keep

ALPHA = 0.05
MOST_SEEDS = 100  # that a new study is simulated with

SPREADS = (
    Spread(locations=1.0, seeds=0.3, both=0.5, clips=1.0),
    Spread(locations=0.3, seeds=0.3, both=1.0, clips=1.0),
    Spread(locations=0.2, seeds=0.5, both=0.2, clips=1.0),
)
ERRORS = (2, 3, 4)  # true differences, in standard errors of a study


def main() -> None:
    """Simulate every case and keep the result."""
    rows = [measure(*case) for case in list_cases()]
    keep("power", "power stated and rate found, of 2,000 simulated studies", rows)


def list_cases() -> Iterator[tuple[int, Spread, float]]:
    """List the cases: number of seeds, spread, true difference."""
    clips = make_clips()
    for seeds in (3, 5):
        for spread in SPREADS:
            error = find_standard_error(clips, seeds, spread)
            for errors in ERRORS:
                yield seeds, spread, errors * error


def find_standard_error(clips: Clips, seeds: int, spread: Spread) -> float:
    """Return the true standard error of a study's difference."""
    places = SCENES * LOCATIONS
    variance = (
        spread.locations**2 / places
        + spread.seeds**2 / seeds
        + spread.both**2 / (places * seeds)
        + spread.clips**2 / (len(clips.names) * seeds)
    )
    return float(np.sqrt(variance))


def measure(seeds: int, spread: Spread, difference: float) -> dict[str, Any]:
    """Simulate the studies of one row."""
    rng = np.random.default_rng(seeds)
    clips = make_clips()

    def finds(seed_count: int, truth: float) -> tuple[np.ndarray, bool]:
        """Simulate a study. Returns its values, and whether it finds the true difference."""
        values = simulate(rng, clips, seed_count, spread, SCENES) + truth
        figure = estimate(values, clips, "acc")
        return values, figure.p < ALPHA and figure.value > 0

    # What every study finds and states, and what new studies find where it says.
    found = []
    powers = []
    smallest = []
    found_at_smallest = []
    seed_counts = []
    found_with_seeds = []
    for _ in range(STUDIES):
        values, is_found = finds(seeds, difference)
        variance = estimate_variance(values, clips, "acc")
        assert variance is not None
        found.append(is_found)
        powers.append(compute_power(variance, difference, ALPHA))
        smallest.append(find_smallest_difference(variance, ALPHA))
        found_at_smallest.append(finds(seeds, smallest[-1])[1])
        seed_counts.append(count_seeds(variance, difference, ALPHA))
        if seed_counts[-1] <= MOST_SEEDS:
            found_with_seeds.append(finds(int(seed_counts[-1]), difference)[1])

    stated = float(np.median(seed_counts))
    return {
        "seeds": seeds,
        "locations": spread.locations,
        "trainings": spread.seeds,
        "both": spread.both,
        "clips": spread.clips,
        "difference": difference,
        "power stated": float(np.mean(powers)),
        "found": float(np.mean(found)),
        "smallest": float(np.median(smallest)),
        "found at it": float(np.mean(found_at_smallest)),
        "seeds stated": "none" if np.isinf(stated) else stated,
        "found with them": float(np.mean(found_with_seeds)),
        "none suffices": float(np.mean(np.isinf(seed_counts))),
    }


if __name__ == "__main__":
    main()
