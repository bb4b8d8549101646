"""Acc and Logloss against scikit-learn, on random and degenerate predictions."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

from avsc_core.metrics import (
    DIRECTIONS,
    compute_scores,
    count_confusions,
    direction_of,
    find_figure,
    is_better,
    rank_key,
    sign_of,
)


@given(st.integers(0, 2**31), st.integers(1, 60))
def test_scores_equal_scikit_learn(seed: int, count: int):
    rng = np.random.default_rng(seed)
    probability = rng.dirichlet(np.full(10, 0.3), count)
    scenes = rng.integers(0, 10, count)
    ours = compute_scores(probability, scenes)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # scikit-learn mentions classes that were decided but never true
        assert ours["acc"] == pytest.approx(balanced_accuracy_score(scenes, probability.argmax(1)))
    assert ours["acc_overall"] == pytest.approx(accuracy_score(scenes, probability.argmax(1)))
    clipped = np.clip(probability, 1e-15, 1)
    assert ours["logloss"] == pytest.approx(log_loss(scenes, clipped, labels=range(10)), rel=1e-6)
    per_class = [
        compute_scores(probability[scenes == s], scenes[scenes == s])["logloss"]
        for s in np.unique(scenes)
    ]
    assert ours["logloss_classwise"] == pytest.approx(np.mean(per_class))
    assert count_confusions(probability, scenes).sum() == count


def test_a_certain_mistake_costs_a_finite_amount():
    probability = np.eye(10)[[1, 1]]
    assert compute_scores(probability, np.array([0, 1]))["logloss"] == pytest.approx(
        -np.log(1e-15) / 2
    )


def test_no_clips_is_a_mistake():
    with pytest.raises(ValueError, match="no clips"):
        compute_scores(np.zeros((0, 10)), np.zeros(0, int))


@pytest.mark.parametrize(("metric", "order"), [("val_acc", "dbca"), ("val_logloss", "bcda")])
def test_equals_by_one_metric_stand_by_the_other_then_by_key(metric: str, order: str):
    trials = {"a": (0.7, 0.9), "c": (0.8, 0.3), "b": (0.8, 0.3), "d": (0.9, 0.4)}
    figures = {
        key: {"best_val_acc": acc, "best_val_logloss": logloss}
        for key, (acc, logloss) in trials.items()
    }
    assert "".join(sorted(trials, key=lambda key: rank_key(metric, figures[key], key))) == order


def test_every_score_has_a_direction():
    scores = compute_scores(np.eye(10), np.arange(10))
    assert set(DIRECTIONS) == set(scores)


@pytest.mark.parametrize(
    ("metric", "direction", "sign"),
    [("acc", "max", 1), ("val_acc", "max", 1), ("logloss", "min", -1), ("val_logloss", "min", -1)],
)
def test_directions(metric: str, direction: str, sign: int):
    assert (direction_of(metric), sign_of(metric)) == (direction, sign)


def epoch(acc: float, logloss: float) -> dict[str, float]:
    return {"val_acc": acc, "val_logloss": logloss}


@pytest.mark.parametrize("metric", ["val_acc", "val_logloss"])
def test_of_equal_epochs_the_better_by_the_other_metric(metric: str):
    assert is_better(metric, epoch(0.6, 0.4), epoch(0.5, 0.5))
    assert not is_better(metric, epoch(0.5, 0.5), epoch(0.5, 0.5))
    assert is_better(metric, epoch(0.6, 0.5), epoch(0.5, 0.5))
    assert is_better(metric, epoch(0.5, 0.4), epoch(0.5, 0.5))
    # where the two disagree, the deciding one counts
    assert is_better(metric, epoch(0.6, 0.9), epoch(0.5, 0.5)) == (metric == "val_acc")


def test_a_trial_counts_by_what_was_selected_and_else_by_its_best_epoch():
    assert find_figure({"selected_val_acc": 0.7, "best_val_acc": 0.8}, "val_acc") == 0.7
    assert find_figure({"best_val_acc": 0.8}, "val_acc") == 0.8
    assert find_figure({"val_acc": 0.6}, "val_acc") is None
