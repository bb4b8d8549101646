"""Scenes and cities against plain counting; the confusion matrix as a picture."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from avsc_core.evaluation.breakdown import score_by_city, score_by_scene
from avsc_core.evaluation.figures import draw_confusion_matrix, draw_confusions
from avsc_core.labels import SCENES
from avsc_core.metrics import compute_scores
from tests.builders.intervals import example


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


def test_the_confusion_picture(tmp_path: Path):
    probability, scenes, _ = example()
    draw_confusions(tmp_path / "c.png", probability, scenes, SCENES, "test")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size == (1125, 1050)


def test_a_confusion_matrix_has_percents_of_each_true_scene():
    axes = Figure().subplots()
    draw_confusion_matrix(axes, np.array([[3, 1], [0, 0]]), ("metro_station", "tram"), "title")
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "75", (1, 0): "25"}  # (decided, true)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["metro station", "tram"]
