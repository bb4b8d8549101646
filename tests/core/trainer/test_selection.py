"""Which epochs a trial's figures are taken from, against a transcription in plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avsc_core.config import Config
from avsc_core.data.dataset import split_rows
from avsc_core.data.features import Features
from avsc_core.metrics import compute_scores
from avsc_core.trainer.checkpoint import CheckpointFile
from avsc_core.trainer.loop import fit
from avsc_core.trainer.selection import TABLES, Selection, deal_halves, score_clips

SCENES = np.repeat(np.arange(4), 9)  # (N,)
LOCATIONS = [f"city-{row // 3}" for row in range(len(SCENES))]  # three of each scene


def draw_epochs(seed: int, count: int) -> list[np.ndarray]:
    """Draw probabilities (N,S) of some epochs, now and then with equal Acc."""
    rng = np.random.default_rng(seed)
    eye = np.eye(4)[SCENES]
    return [rng.dirichlet(np.full(4, 0.7), len(SCENES)) / 2 + eye * 0.2 for _ in range(count)]


def select_among(epochs: list[np.ndarray], metric: str = "val_acc") -> Selection:
    selection = Selection(metric, SCENES, deal_halves(SCENES, LOCATIONS))
    for number, table in enumerate(epochs, start=1):
        selection.add(number, score_clips(table, SCENES), table)
    return selection


def find_best(epochs: list[np.ndarray], rows: np.ndarray, metric: str) -> int:
    """Find the first of the best epochs on some clips; between equals the other metric decides."""
    best = 0
    for number, table in enumerate(epochs):
        new, old = (compute_scores(each[rows], SCENES[rows]) for each in (table, epochs[best]))
        more_acc = (new["acc"] > old["acc"], new["acc"] == old["acc"])
        less_cost = (new["logloss"] < old["logloss"], new["logloss"] == old["logloss"])
        first, second = (more_acc, less_cost) if metric == "val_acc" else (less_cost, more_acc)
        if first[0] or (first[1] and second[0]):
            best = number
    return best


@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from(["val_acc", "val_logloss"]))
def test_every_clip_is_scored_at_the_epoch_that_the_other_half_has_chosen(
    seed: int, count: int, metric: str
):
    epochs = draw_epochs(seed, count)
    selection = select_among(epochs, metric)
    halves = deal_halves(SCENES, LOCATIONS)
    expected = np.empty_like(epochs[0])
    for half in (0, 1):
        chosen = find_best(epochs, np.flatnonzero(halves != half), metric)
        expected[halves == half] = epochs[chosen][halves == half]
    selected = selection.select("crossfit")
    assert np.array_equal(selected.probability, expected)
    assert selected.metrics == score_clips(expected, SCENES)
    everything = np.arange(len(SCENES))
    assert selected.epochs == find_best(epochs, everything, metric) + 1


def test_the_other_rules():
    epochs = draw_epochs(1, 5)
    selection = select_among(epochs)
    figures = [score_clips(table, SCENES) for table in epochs]

    best = find_best(epochs, np.arange(len(SCENES)), "val_acc")
    assert selection.select("best").metrics == figures[best]
    assert selection.select("best").epochs == best + 1

    assert selection.select("last").metrics == figures[-1]
    assert selection.select("last").epochs == 5

    # Figures are averaged, probabilities are not.
    few = selection.select("last 3")
    assert few.metrics["val_acc"] == pytest.approx(np.mean([f["val_acc"] for f in figures[-3:]]))
    assert few.metrics["val_logloss"] == pytest.approx(
        np.mean([f["val_logloss"] for f in figures[-3:]])
    )
    assert np.array_equal(few.probability, np.concatenate(epochs[-3:]))
    assert few.epochs == 5


def test_short_trainings():
    """There are fewer than three epochs to average."""
    epochs = draw_epochs(2, 2)
    assert len(select_among(epochs).select("last 3").probability) == 2 * len(SCENES)
    for rule in TABLES:
        single = select_among(epochs[:1]).select(rule)
        assert single.metrics == pytest.approx(score_clips(epochs[0], SCENES))


def test_the_summary_has_the_selected_figures_beside_the_best():
    summary = select_among(draw_epochs(3, 6)).summarise("crossfit")
    assert summary["selected_val_acc"] <= summary["best_val_acc"]
    assert summary["selected_epoch"] == summary["best_epoch"]
    last = select_among(draw_epochs(3, 6)).summarise("last")
    assert last["selected_epoch"] == 6
    assert last["best_val_acc"] == summary["best_val_acc"]


def test_the_halves_share_no_location_and_are_about_equal():
    halves = deal_halves(SCENES, LOCATIONS)
    of_first = {LOCATIONS[row] for row in np.flatnonzero(halves == 0)}
    of_second = {LOCATIONS[row] for row in np.flatnonzero(halves == 1)}
    assert not of_first & of_second
    assert len(of_first) == len(of_second) == 6
    for scene in range(4):
        assert set(halves[scene == SCENES]) == {0, 1}
    # The order of the clips says nothing.
    order = np.random.default_rng(0).permutation(len(SCENES))
    shuffled = deal_halves(SCENES[order], [LOCATIONS[row] for row in order])
    assert np.array_equal(shuffled, halves[order])


def test_scenes_with_one_location_and_locations_of_several_scenes():
    scenes = np.array([0, 0, 1, 1, 2, 2])
    # One location a scene: they go to the halves by turns.
    assert deal_halves(scenes, ["a", "a", "b", "b", "c", "c"]).tolist() == [0, 0, 1, 1, 0, 0]
    # A location that scenes share is not torn apart.
    assert deal_halves(scenes, ["a", "b", "a", "b", "a", "c"]).tolist() == [0, 1, 0, 1, 0, 0]


def test_with_one_location_in_all_the_last_epoch_counts():
    epochs = draw_epochs(4, 6)
    selection = Selection("val_acc", SCENES, deal_halves(SCENES, ["a"] * len(SCENES)))
    for number, table in enumerate(epochs, start=1):
        selection.add(number, score_clips(table, SCENES), table)
    assert np.array_equal(selection.select("crossfit").probability, epochs[-1])


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_continued_trial_counts_the_same(
    features: Features, tiny: Config, tmp_path: Path, stop_after: int
):
    parts = split_rows(features.data, tiny.split)
    rows = (parts.train, parts.validation)
    *_, whole = fit(tiny, features, *rows)
    path = tmp_path / "trial.pt"
    running = fit(tiny, features, *rows, checkpoint=CheckpointFile(path, minutes=0))
    for _ in range(stop_after):
        next(running)
    running.close()
    torch.rand(3)
    *_, continued = fit(tiny, features, *rows, checkpoint=CheckpointFile(path, minutes=0))
    for rule in TABLES:
        assert continued.selection.summarise(rule) == whole.selection.summarise(rule)
        one, other = (each.selection.select(rule).probability for each in (continued, whole))
        assert np.array_equal(one, other)
