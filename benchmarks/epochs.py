"""How often do two equally good arms seem to differ, by the rule that selects their epochs?

Arms A and B are simulated with equal true accuracy on 180 clips of 30 locations of ten scenes, over
20 epochs. What a training makes of a clip is its difficulty, which both arms share, what the arm
makes of the location, and luck. A share of the luck is drawn anew after every epoch, so that the
curve jitters; the rest stays for the whole training. The share may differ between the arms, and the
accuracy of every single epoch is the same all the same. `Selection` of the product then takes the
figures from these epochs by each rule, and `estimate` compares the arms as reports do.

Each row has 2,000 simulated studies: the share with p below 0.05 (0.05 is right, or less), the
share of 95 % intervals that hold the true difference 0, and the mean difference of the arms. What
jitters in all locations at once is left out: an epoch that is better everywhere is better, and arms
that have such epochs are not equally good.
"""

from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from avsc_core.evaluation.intervals import Clips, estimate, mark_correct
from avsc_core.metrics import compute_deciding_scores
from avsc_core.trainer.selection import TABLES, Selection, add_prefix, deal_halves
from benchmarks.report import keep

STUDIES = 2000
EPOCHS = 20
SCENES = 10
LOCATIONS = 3  # of each scene
EACH = 6  # clips of each location

SKILL = 1.2  # the mean of what decides whether a clip is right; above 0 it is
DIFFICULTY = 0.7  # standard deviation over locations, and over clips, for both arms
TASTE = 0.3  # over locations, for each arm by itself
LUCK_OF_LOCATIONS = 1.0  # over trainings
LUCK_OF_CLIPS = 1.0


class Case(NamedTuple):
    """A row of the table, for each rule."""

    seeds: int
    jitter_a: float  # share of the luck of arm A that is drawn anew after every epoch
    jitter_b: float


CASES = (
    Case(seeds=3, jitter_a=0.0, jitter_b=0.0),
    Case(seeds=3, jitter_a=1.0, jitter_b=1.0),
    Case(seeds=3, jitter_a=0.5, jitter_b=0.1),
    Case(seeds=3, jitter_a=1.0, jitter_b=0.0),
    Case(seeds=1, jitter_a=1.0, jitter_b=0.0),
)


def main() -> None:
    """Simulate every case and keep the result."""
    with ProcessPoolExecutor() as pool:
        rows = list(chain.from_iterable(pool.map(measure, CASES)))
    keep("epochs", "equally good arms that seem to differ, of 2,000 simulated studies", rows)


def measure(case: Case, studies: int = STUDIES) -> list[dict[str, Any]]:
    """Simulate the studies of one case; return a row for each rule."""
    rng = np.random.default_rng(case.seeds)
    clips = make_clips()
    halves = deal_halves(clips.scenes, [f"place-{place:02}" for place in clips.places])
    differences = defaultdict(list)  # rule -> estimates
    for _ in range(studies):
        for rule, values in simulate_study(rng, clips, halves, case).items():
            differences[rule].append(estimate(values, clips, "acc"))

    rows = []
    for rule, found in differences.items():
        significant = [figure.p < 0.05 for figure in found]
        holding = [figure.low <= 0 <= figure.high for figure in found]
        row = {
            "seeds": case.seeds,
            "jitter of A": case.jitter_a,
            "jitter of B": case.jitter_b,
            "select": rule,
            "p < 0.05": float(np.mean(significant)),
            "covers": float(np.mean(holding)),
            "A less B": float(np.mean([figure.value for figure in found])),
        }
        rows.append(row)
    return rows


def make_clips() -> Clips:
    """Make the N clips of every simulated study."""
    scenes = np.repeat(np.arange(SCENES), LOCATIONS * EACH)  # (N,)
    places = np.repeat(np.arange(SCENES * LOCATIONS), EACH)  # (N,)
    names = tuple(f"clip-{number:03}" for number in range(len(scenes)))
    return Clips(names=names, scenes=scenes, places=places)


def simulate_study(
    rng: np.random.Generator, clips: Clips, halves: np.ndarray, case: Case
) -> dict[str, np.ndarray]:
    """Simulate two arms; return by rule how much more A has than B on every clip: (R,N)."""
    shared = SKILL + draw_parts(rng, clips, DIFFICULTY, DIFFICULTY, 1)[0]  # (N,)
    values = {rule: np.zeros((case.seeds, len(shared))) for rule in TABLES}
    for jitter, sign in ((case.jitter_a, 1), (case.jitter_b, -1)):
        level = shared + draw_parts(rng, clips, TASTE, 0.0, 1)[0]  # (N,)
        for seed in range(case.seeds):
            selection = train(rng, clips, halves, level, jitter)
            for rule, list_tables in TABLES.items():
                tables = np.stack(list_tables(selection))  # (B,N,S)
                values[rule][seed] += sign * mark_correct(tables, clips.scenes).mean(0)
    return values


def train(
    rng: np.random.Generator, clips: Clips, halves: np.ndarray, level: np.ndarray, jitter: float
) -> Selection:
    """Simulate the epochs of a training whose clips have the levels (N,)."""
    constant = draw_parts(rng, clips, LUCK_OF_LOCATIONS, LUCK_OF_CLIPS, 1)  # (1,N)
    changing = draw_parts(rng, clips, LUCK_OF_LOCATIONS, LUCK_OF_CLIPS, EPOCHS)  # (epochs,N)
    logits = level + np.sqrt(1 - jitter) * constant + np.sqrt(jitter) * changing

    selection = Selection("val_acc", clips.scenes, halves)
    everything = np.arange(len(level))
    for epoch, probability in enumerate(1 / (1 + np.exp(-logits)), start=1):
        # What the true scene does not have, the next one has.
        table = np.zeros((len(level), SCENES))
        table[everything, clips.scenes] = probability
        table[everything, (clips.scenes + 1) % SCENES] = 1 - probability
        figures = add_prefix(compute_deciding_scores(table, clips.scenes))
        selection.add(epoch, figures, table)
    return selection


def draw_parts(
    rng: np.random.Generator, clips: Clips, by_location: float, by_clip: float, count: int
) -> np.ndarray:
    """Draw (count,N) sums of a part of the location and one of the clip, with mean 0."""
    of_locations = rng.normal(0, by_location, (count, SCENES * LOCATIONS))
    parts: np.ndarray = of_locations[:, clips.places]
    return parts + rng.normal(0, by_clip, (count, len(clips.names)))


if __name__ == "__main__":
    main()
