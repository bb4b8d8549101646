"""Clips in locations of scenes, and values of them whose spread is known."""

import numpy as np

from avsc_core.evaluation.intervals import Clips

SIMULATIONS = 2000
SCENES, PLACES, EACH = 10, 3, 6  # scenes, locations in each, clips in each location


def clips(scenes: int = SCENES, places: int = PLACES, each: int = EACH) -> Clips:
    """Make equally many clips in each location of each scene."""
    of_scene = np.repeat(np.arange(scenes), places * each)
    return Clips(
        tuple(map(str, range(len(of_scene)))), of_scene, np.repeat(np.arange(scenes * places), each)
    )


def draw(
    rng: np.random.Generator,
    layout: Clips,
    seeds: int,
    place: float,
    seed: float,
    both: float,
    clip: float,
) -> np.ndarray:
    """Draw (R,N) values with mean 0 and these standard deviations.

    They are of locations, of seeds, of their interaction, and of clips.
    """
    count = layout.places.max() + 1
    by_place = (
        rng.normal(0, place, (1, count))
        + rng.normal(0, both, (seeds, count))
        + rng.normal(0, seed, (seeds, 1))
    )
    return by_place[:, layout.places] + rng.normal(0, clip, (seeds, len(layout.names)))


def example(count: int = 200) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return decisions of one model on clips of ten scenes, each with two locations."""
    rng = np.random.default_rng(0)
    scenes = np.arange(count) % 10
    probability = rng.dirichlet(np.ones(10), count) + 0.3 * np.eye(10)[scenes]
    cities = ("lisbon", "lyon")
    locations = [f"{cities[row % 2]}-{scenes[row]}{row % 4}" for row in range(count)]
    return probability / 1.3, scenes, locations
