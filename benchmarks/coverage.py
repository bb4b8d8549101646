"""How often do the reports' 95 % intervals hold the truth, against a percentile bootstrap over locations and seeds?

Simulated figures of ten scenes with three locations of six clips each, as on TAU's validation part, moved by locations,
by seeds, by both together and by clips, with these standard deviations, in all scenes or, as with good models, in two.
2,000 studies for each row; what is printed is the share of intervals that hold the truth (0.95 is right) and their mean
width.
"""

from typing import Any

import numpy as np

from avsc_core.evaluation.intervals import Clips, estimate
from benchmarks.report import keep

STUDIES, DRAWS = 2000, 400
SCENES, PLACES, EACH = 10, 3, 6
MOVED_BY = (
    (1.0, 0.0, 0.0, 1.0),
    (1.0, 0.3, 0.5, 1.0),
    (0.3, 0.3, 1.0, 1.0),
    (0.2, 0.5, 0.2, 1.0),
    (0.0, 0.0, 0.0, 1.0),
)


def layout() -> Clips:
    """The clips of every simulated study."""
    scenes = np.repeat(np.arange(SCENES), PLACES * EACH)
    return Clips(
        tuple(map(str, range(len(scenes)))), scenes, np.repeat(np.arange(SCENES * PLACES), EACH)
    )


def simulated(
    rng: np.random.Generator, clips: Clips, seeds: int, moved_by: tuple[float, ...], varying: int
) -> np.ndarray:
    """(R,N) values with mean 0, all 0 but in the scenes that vary."""
    place, seed, both, clip = moved_by
    count = SCENES * PLACES
    values = (
        rng.normal(0, place, (1, count))
        + rng.normal(0, both, (seeds, count))
        + rng.normal(0, seed, (seeds, 1))
    )
    table: np.ndarray = values[:, clips.places] + rng.normal(0, clip, (seeds, len(clips.names)))
    table[:, clips.scenes >= varying] = 0.0
    return table


def bootstrap(rng: np.random.Generator, values: np.ndarray) -> tuple[float, float]:
    """The percentile interval over draws of as many locations within each scene, and of as many seeds."""
    seeds = len(values)
    places = values.reshape(seeds, SCENES, PLACES, EACH).mean(3)  # (R,S,L)
    drawn = rng.integers(0, PLACES, (DRAWS, SCENES, PLACES))
    counts = (drawn[..., None] == np.arange(PLACES)).sum(2)  # (draws,S,L)
    rows = (rng.integers(0, seeds, (DRAWS, seeds))[..., None] == np.arange(seeds)).sum(
        1
    )  # (draws,R)
    means = np.einsum("dr,rsl,dsl->d", rows, places, counts) / (seeds * SCENES * PLACES)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def measure(seeds: int, moved_by: tuple[float, ...], varying: int) -> dict[str, Any]:
    """One row."""
    rng, clips = np.random.default_rng(seeds), layout()
    ends = {"ours": np.empty((STUDIES, 2)), "bootstrap": np.empty((STUDIES, 2))}
    for study in range(STUDIES):
        values = simulated(rng, clips, seeds, moved_by, varying)
        found = estimate(values, clips, "acc")
        ends["ours"][study] = found.low, found.high
        ends["bootstrap"][study] = bootstrap(rng, values)
    row: dict[str, Any] = dict(
        zip(
            ("seeds", "scenes", "locations", "trainings", "both", "clips"),
            (seeds, varying, *moved_by),
            strict=True,
        )
    )
    for name, pairs in ends.items():
        row[f"{name} covers"] = float(((pairs[:, 0] <= 0) & (pairs[:, 1] >= 0)).mean())
    row["times as wide"] = float(np.diff(ends["ours"]).mean() / np.diff(ends["bootstrap"]).mean())
    return row


def main() -> None:
    asked = [(seeds, moved_by, SCENES) for seeds in (1, 2, 3, 5) for moved_by in MOVED_BY]
    asked += [(seeds, MOVED_BY[0], 2) for seeds in (1, 3, 5)]
    # The luck of trainings cannot be seen in one.
    rows = [measure(*each) for each in asked if each[0] > 1 or not each[1][1]]
    keep("coverage", "95 % intervals that hold the truth, of 2,000 simulated studies", rows)


if __name__ == "__main__":
    main()
