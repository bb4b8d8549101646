"""Does `seeds: {until: told, at most: 10}` hold its level, and how many seeds does it buy?

Arms are simulated on the clips of `coverage.py`: their figures vary by location, by seed, by both
together and by clip. Of each row there are 2,000 studies. Seeds are added from 3 to 10 until every
difference of two arms is told: by the product's own rule; by a careless one, which tests again
after each seed as if it had not before; beside them stands a study with 10 seeds from the start.

`told` is the share of studies that tell at least one difference: with equal arms an error, which
0.05 of them may make.
"""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np

from avsc_core.evaluation.intervals import Clips, estimate
from avsc_core.evaluation.sequential import combine_looks
from benchmarks.coverage import SCENES, Spread, make_clips, simulate
from benchmarks.report import keep
from studies.report.statistics import correct_by_holm
from studies.study.schema import BELIEVED_BELOW, FIRST_LOOK

STUDIES = 2000
LOOKS = range(FIRST_LOOK, 11)

SPREADS = (
    Spread(locations=0.0, seeds=0.3, both=0.0, clips=0.3),
    Spread(locations=0.2, seeds=0.3, both=0.2, clips=1.0),
    Spread(locations=0.3, seeds=0.0, both=0.3, clips=1.0),
    Spread(locations=1.0, seeds=0.3, both=0.5, clips=1.0),
)
DIFFERENCES = (0.3, 0.5, 0.8)


def main() -> None:
    """Simulate every case and keep the result."""
    rows = [measure(*case) for case in list_cases()]
    question = "Studies that tell a difference of arms, and the seeds they buy, of 2,000 simulated"
    keep("sequential", question, rows)


def list_cases() -> Iterator[tuple[int, Spread, float]]:
    """List the cases: number of arms, spread of each arm, what one arm has more than the others."""
    for arms in (2, 4):
        for spread in SPREADS:
            yield arms, spread, 0.0
    for spread in SPREADS[1:3]:
        for difference in DIFFERENCES:
            yield 2, spread, difference


def measure(arms: int, spread: Spread, difference: float) -> dict[str, Any]:
    """Simulate the studies of one row."""
    rng = np.random.default_rng(arms)
    clips = make_clips()

    # For each study: whether each rule tells a difference, and the seeds that ours buys.
    told = np.empty((STUDIES, 3), bool)
    seeds = np.empty(STUDIES)
    for study in range(STUDIES):
        values = [simulate(rng, clips, LOOKS[-1], spread, SCENES) for _ in range(arms)]
        values[0] = values[0] + difference
        p = _test_pairs(values, clips)  # (K,pairs)

        combined = [combine_looks(p[: look + 1], LOOKS) for look in range(len(LOOKS))]
        last, ours = _add_seeds(np.array(combined))
        _, careless = _add_seeds(p)
        _, at_once = _add_seeds(p[-1:])
        told[study] = ours.any(), at_once.any(), careless.any()
        seeds[study] = LOOKS[last]

    ours_told, at_once_told, careless_told = told.mean(axis=0)
    return {
        "arms": arms,
        "locations": spread.locations,
        "trainings": spread.seeds,
        "both": spread.both,
        "clips": spread.clips,
        "difference": difference,
        "told": float(ours_told),
        "told with 10 seeds": float(at_once_told),
        "told carelessly": float(careless_told),
        "seeds bought": float(seeds.mean()),
    }


def _test_pairs(values: list[np.ndarray], clips: Clips) -> np.ndarray:
    """Test the difference of every pair of arms at every look: (K,pairs) p values."""
    columns = []
    for one, other in combinations(values, 2):
        contrast = one - other  # (R,N)
        columns.append([estimate(contrast[:seeds], clips, "acc").p for seeds in LOOKS])
    return np.array(columns).T


def _add_seeds(p: np.ndarray) -> tuple[int, np.ndarray]:
    """Add seeds until all pairs are told by (K,pairs) p values, corrected for their number.

    Returns the look at which that ends, and what is told by then: (pairs,).
    """
    corrected = np.array([correct_by_holm(look.tolist()) for look in p])
    told = np.logical_or.accumulate(corrected < BELIEVED_BELOW)  # (K,pairs)
    ends = told.all(axis=1)
    last = int(ends.argmax()) if ends.any() else len(told) - 1
    return last, told[last]


if __name__ == "__main__":
    main()
