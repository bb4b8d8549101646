"""Scenes, cities and intervals against plain counting."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avsc_core.evaluation.breakdown import draw_confusions, intervals, score_by_city, score_by_scene
from avsc_core.labels import SCENES
from avsc_core.metrics import compute_scores


def example(seed: int = 0, count: int = 200) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    scenes = np.arange(count) % 10
    probability = rng.dirichlet(np.ones(10), count) + 0.3 * np.eye(10)[scenes]
    cities = ("lisbon", "lyon")
    return (
        probability / 1.3,
        scenes,
        [f"{cities[row % 2]}-{scenes[row]}{row % 4}" for row in range(count)],
    )


def test_by_scene_and_city():
    probability, scenes, locations = example()
    found = score_by_scene(probability, scenes, SCENES)
    assert list(found) == sorted(SCENES)
    assert np.mean([acc for _, acc, _ in found.values()]) == pytest.approx(
        compute_scores(probability, scenes)["acc"]
    )
    cities = score_by_city(probability, scenes, locations)
    assert {city: count for city, (count, _, _) in cities.items()} == {"lisbon": 100, "lyon": 100}
    rows = [row for row, location in enumerate(locations) if location.startswith("lyon")]
    assert cities["lyon"][1] == np.mean(probability[rows].argmax(1) == scenes[rows])


def test_intervals_hold_the_score_and_repeat():
    probability, scenes, locations = example()
    found = intervals(probability, scenes, locations)
    for name, value in compute_scores(probability, scenes).items():
        low, high = found[name]
        assert low < value < high
    assert intervals(probability, scenes, locations) == found
    assert intervals(probability, scenes, locations, seed=1) != found


def test_clips_of_one_location_are_one_draw():
    """Copying every clip within its location adds no knowledge, so the interval stays as wide."""
    probability, scenes, locations = example(count=80)
    wide = intervals(probability, scenes, locations)["acc"]
    copied = intervals(
        np.repeat(probability, 5, 0), np.repeat(scenes, 5), np.repeat(locations, 5).tolist()
    )["acc"]
    assert copied == pytest.approx(wide)


def test_one_location_a_scene_leaves_no_interval():
    probability, scenes, _ = example(count=20)
    for low, high in intervals(probability, scenes, [f"x-{scene}" for scene in scenes]).values():
        assert np.isnan([low, high]).all()
    one_more = [f"x-{scene}{row // 10 if scene == 0 else ''}" for row, scene in enumerate(scenes)]
    low, high = intervals(probability, scenes, one_more)["logloss"]
    assert low < high


def test_a_location_of_two_scenes_brings_each_its_own_clips():
    """As if it had two names; a draw for one scene would else bring the other's clips, and never leave them out."""
    rng = np.random.default_rng(0)
    scenes = np.arange(60) % 2
    probability = rng.dirichlet(np.ones(2), 60)
    shared = [f"x-{row // 2 % 3}" for row in range(60)]
    apart = [f"{place}{scene}" for place, scene in zip(shared, scenes, strict=True)]
    assert intervals(probability, scenes, shared) == intervals(probability, scenes, apart)


def test_the_confusion_picture(tmp_path: Path):
    probability, scenes, _ = example()
    draw_confusions(tmp_path / "c.png", probability, scenes, SCENES, "test")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size == (1125, 1050)
