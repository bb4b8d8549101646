"""Intervals: parity with scipy and statsmodels, known effects, coverage in 2,000 simulations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.formula.api import ols

from avsc_core.evaluation.intervals import (
    Clips,
    bound,
    compute_costs,
    estimate,
    estimate_scores,
    mark_correct,
)
from avsc_core.metrics import compute_scores
from tests.builders.intervals import EACH, SIMULATIONS, clips, draw, example


@given(st.integers(0, 10_000))
def test_values_are_the_scores_of_metrics(number: int):
    rng = np.random.default_rng(number)
    scenes = rng.integers(0, 4, 60)
    probability = rng.dirichlet(np.ones(4), (2, 60))
    layout = Clips(tuple(map(str, range(60))), scenes, rng.integers(0, 12, 60))
    told = [compute_scores(table, scenes) for table in probability]
    acc = estimate(mark_correct(probability, scenes), layout, "acc")
    logloss = estimate(compute_costs(probability, scenes), layout, "logloss")
    assert acc.value == pytest.approx(np.mean([each["acc"] for each in told]))
    assert logloss.value == pytest.approx(np.mean([each["logloss"] for each in told]))
    overall = estimate(mark_correct(probability, scenes), layout, "acc_overall")
    classwise = estimate(compute_costs(probability, scenes), layout, "logloss_classwise")
    assert overall.value == pytest.approx(np.mean([each["acc_overall"] for each in told]))
    assert classwise.value == pytest.approx(np.mean([each["logloss_classwise"] for each in told]))


def test_one_seed_in_one_scene_is_the_t_test_over_locations():
    layout = clips(scenes=1, places=12)
    values = draw(np.random.default_rng(0), layout, 1, 1.0, 0.0, 0.0, 1.0) + 0.4
    means = values[0].reshape(12, EACH).mean(1)
    reference = stats.ttest_1samp(means, 0.0)
    for metric in ("acc", "logloss"):
        ours = estimate(values, layout, metric)
        assert ours.value == pytest.approx(means.mean())
        assert ours.p == pytest.approx(reference.pvalue)
        assert (ours.low, ours.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))


def test_locations_that_agree_leave_the_t_test_over_seeds():
    layout = clips()
    per_seed = np.array([0.1, 0.5, 0.2, 0.4])
    ours = estimate(np.repeat(per_seed[:, None], len(layout.names), 1), layout, "acc")
    reference = stats.ttest_1samp(per_seed, 0.0)
    assert ours.p == pytest.approx(reference.pvalue)
    assert (ours.low, ours.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))


def test_arms_compared_are_the_paired_t_test():
    layout = clips(scenes=1, places=15)
    rng = np.random.default_rng(1)
    one, other = (draw(rng, layout, 1, 1.0, 0.0, 0.0, 1.0) for _ in range(2))
    reference = stats.ttest_rel(
        one[0].reshape(15, EACH).mean(1), other[0].reshape(15, EACH).mean(1)
    )
    assert estimate(one - other, layout, "logloss").p == pytest.approx(reference.pvalue)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("place", "seed", "both", "clip"),
    [(1.0, 0.0, 0.0, 1.0), (1.0, 0.3, 0.5, 1.0), (0.3, 0.3, 1.0, 1.0), (0.2, 0.5, 0.2, 1.0)],
)
def test_intervals_cover_and_tests_hold_their_level(
    seeds: int, place: float, seed: float, both: float, clip: float
):
    """About 95 % of intervals hold the truth, and about 5 % of tests of nothing find something."""
    rng = np.random.default_rng(seeds)
    layout = clips()
    found = [
        estimate(draw(rng, layout, seeds, place, seed, both, clip), layout, "acc")
        for _ in range(SIMULATIONS)
    ]
    covered = np.mean([each.low <= 0 <= each.high for each in found])
    assert 0.93 <= covered <= 0.985
    assert np.mean([each.p < 0.05 for each in found]) == pytest.approx(1 - covered)


def test_one_seed_covers_what_it_speaks_of():
    """Locations differ, in this one training: several trainings would say more."""
    rng = np.random.default_rng(9)
    layout = clips()
    found = [
        estimate(draw(rng, layout, 1, 1.0, 0.0, 0.0, 1.0), layout, "acc")
        for _ in range(SIMULATIONS)
    ]
    assert 0.935 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.965


@pytest.mark.parametrize(("seeds", "found"), [(3, 0.8), (5, 0.99)])
def test_known_effects_of_real_predictions_are_found(seeds: int, found: float):
    """Right and wrong answers, not normal numbers: a better model, and its interval's coverage."""
    rng, layout = np.random.default_rng(3), clips(places=4, each=8)
    covered, sure = [], []
    for _ in range(SIMULATIONS):
        luck = rng.normal(0, 0.5, (1, 40))[:, layout.places] + rng.normal(0, 0.15, (seeds, 1))
        one, other = (
            rng.random((seeds, 320)) < 1 / (1 + np.exp(-(bias + luck))) for bias in (1.0, 0.4)
        )
        ours = estimate(one.astype(float) - other, layout, "acc")
        covered.append(
            ours.low <= 0.1299 <= ours.high
        )  # the mean difference of the two logistic curves over the luck
        sure.append(ours.low > 0)
    assert (
        0.93 <= np.mean(covered) <= 0.995
    )  # wide where hardly anything but the clips' own luck moves the figure
    assert np.mean(sure) > found


def test_contrasts_of_a_factorial_are_those_of_a_linear_model():
    """Main effects and interaction of 2 x 2 arms equal statsmodels' with sum coding."""
    rng, layout = np.random.default_rng(4), clips()
    arms = {(a, b): draw(rng, layout, 2, 0.5, 0.2, 0.1, 1.0) + 0.3 * a + 0.1 * b + 0.4 * a * b
            for a in (0, 1) for b in (0, 1)}  # fmt: skip
    table = {"y": [], "a": [], "b": []}
    for (a, b), values in arms.items():
        table["y"] += values.ravel().tolist()
        table["a"] += [a - 0.5] * values.size
        table["b"] += [b - 0.5] * values.size
    fitted = ols("y ~ a * b", table).fit().params
    main = estimate((arms[1, 0] + arms[1, 1] - arms[0, 0] - arms[0, 1]) / 2, layout, "logloss")
    both = estimate(arms[1, 1] - arms[1, 0] - arms[0, 1] + arms[0, 0], layout, "logloss")
    assert main.value == pytest.approx(fitted["a"])
    assert both.value == pytest.approx(fitted["a:b"])


def test_what_cannot_be_known_is_not_claimed():
    alone = Clips(("a", "b"), np.array([0, 0]), np.array([0, 0]))
    assert np.isnan(estimate(np.ones((3, 2)), alone, "acc").low)
    same = estimate(np.zeros((3, len(clips().names))), clips(), "acc")
    assert (same.value, same.p) == (0.0, 1.0)
    assert np.isnan(
        [same.low, same.high]
    ).all()  # that two arms agreed on these clips does not say that they always do
    layout = clips(scenes=2, places=2)
    one_more = np.zeros((3, len(layout.names)))
    one_more[:, [0, EACH]] = 1.0  # the first clip of both locations of one scene, whatever the seed
    for values in (one_more, one_more[:1], np.full((3, len(layout.names)), 1 / 3)):
        found = estimate(values, layout, "acc")
        assert np.isnan([found.low, found.high, found.p]).all()


def test_a_level_stays_within_what_it_can_be():
    """Sums of 1/160 add up to a little more than 1."""
    layout = clips(places=2, each=4)
    right = np.ones((2, len(layout.names)))
    assert bound(estimate(right, layout, "acc"), "acc").value == 1.0
    right[0, :3] = 0.0
    found = bound(estimate(right, layout, "acc"), "acc")
    assert found.low <= found.value <= found.high == 1.0


@pytest.mark.parametrize("metric", ["acc", "logloss"])
@pytest.mark.parametrize(
    "places", [[1] * 10, [1] * 8 + [3] * 2, [1] + [3] * 9], ids=["all", "most", "one"]
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_scenes_with_one_location_count_together(metric: str, places: list[int], seeds: int):
    """They have no spread of their own; left out or alone, they would pass for certain."""
    of_place = np.repeat(np.arange(sum(places)), EACH)
    layout = Clips(tuple(map(str, of_place)), np.repeat(np.arange(10), places)[of_place], of_place)
    rng = np.random.default_rng(6)
    found = [
        estimate(draw(rng, layout, seeds, 1.0, 0.1, 0.1, 1.0), layout, metric)
        for _ in range(SIMULATIONS)
    ]
    assert 0.925 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.985


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("varying", [1, 2, 3])
def test_few_scenes_that_vary_are_few_locations(varying: int, seeds: int):
    """Good models err in few scenes; the locations of the others say nothing of the spread."""
    layout, rng = clips(), np.random.default_rng(varying)
    found = []
    for _ in range(SIMULATIONS):
        values = draw(rng, layout, seeds, 1.0, 0.0, 0.3, 1.0)
        found.append(estimate(np.where(layout.scenes < varying, values, 0.0), layout, "acc"))
    assert 0.93 <= np.mean([each.low <= 0 <= each.high for each in found]) <= 0.99


def test_intervals_of_a_model_hold_its_scores_and_repeat():
    probability, scenes, locations = example()
    found = estimate_scores(probability, scenes, locations)
    scores = compute_scores(probability, scenes)
    assert list(found) == list(scores)
    for name, value in scores.items():
        assert found[name].value == pytest.approx(value)
        assert found[name].low < value < found[name].high
    assert estimate_scores(probability, scenes, locations) == found


def test_intervals_of_a_model_are_those_of_the_report():
    probability, scenes, locations = example()
    places = np.unique(locations, return_inverse=True)[1]
    layout = Clips(tuple(locations), scenes, places)
    found = estimate_scores(probability, scenes, locations)
    for name, values in (("acc", mark_correct), ("logloss", compute_costs)):
        wanted = estimate(values(probability[None], scenes), layout, name)
        assert found[name] == bound(wanted, name)


def test_clips_of_one_location_count_once():
    """Copying every clip within its location adds no knowledge, so the interval stays as wide."""
    probability, scenes, locations = example(count=80)
    wide = estimate_scores(probability, scenes, locations)
    copied = estimate_scores(
        np.repeat(probability, 5, 0), np.repeat(scenes, 5), np.repeat(locations, 5).tolist()
    )
    for name, figure in wide.items():
        assert copied[name] == pytest.approx(figure)


def test_one_location_leaves_no_interval():
    probability, scenes, _ = example(count=20)
    alone = scenes == 0
    found = estimate_scores(probability[alone], scenes[alone], ["x-0"] * alone.sum())
    for figure in found.values():
        assert np.isnan([figure.low, figure.high]).all()


def test_one_location_a_scene_is_compared_across_scenes():
    probability, scenes, _ = example(count=20)
    found = estimate_scores(probability, scenes, [f"x-{scene}" for scene in scenes])
    assert found["logloss"].low < found["logloss"].high
    one_more = [f"x-{scene}{row // 10 if scene == 0 else ''}" for row, scene in enumerate(scenes)]
    found = estimate_scores(probability, scenes, one_more)
    assert found["logloss"].low < found["logloss"].high


def test_a_location_of_two_scenes_counts_for_each_with_its_own_clips():
    """As if it had two names."""
    rng = np.random.default_rng(0)
    scenes = np.arange(60) % 2
    probability = rng.dirichlet(np.ones(2), 60)
    shared = [f"x-{row // 2 % 3}" for row in range(60)]
    apart = [f"{place}{scene}" for place, scene in zip(shared, scenes, strict=True)]
    assert estimate_scores(probability, scenes, shared) == estimate_scores(
        probability, scenes, apart
    )


def test_printed_intervals_stay_within_what_they_can_be():
    scenes = np.arange(40) % 2
    decided = scenes.copy()
    decided[0] = 1
    found = estimate_scores(np.eye(2)[decided], scenes, [f"x-{row % 8}" for row in range(40)])
    for name in ("acc", "acc_overall"):
        assert found[name].low < found[name].high == 1.0
    assert found["logloss"].low == 0.0
