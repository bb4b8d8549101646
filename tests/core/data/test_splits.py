"""Splits of data whose groups several scenes share (avsc_core/data/dataset.py)."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from avsc_core.config import Split
from avsc_core.data.dataset import DataSet, describe_split, select_rows, split_rows
from avsc_core.data.tables import Clip
from avsc_core.errors import UserError

Row = tuple[int, str, str]  # scene, group, split


def make_data(rows: list[Row]) -> DataSet:
    """Make a data set of these clips, without files."""
    clips = []
    for number, (scene, group, split) in enumerate(rows):
        clips.append(Clip(str(number), Path(), Path(), scene, group, split))
    none = np.zeros((len(clips), 2), np.uint8)
    scenes = tuple(f"scene {scene}" for scene in range(1 + max(scene for scene, _, _ in rows)))
    return DataSet(
        root=Path("own"),
        clips=clips,
        events=none,
        objects=none,
        event_names=["a", "b"],
        object_names=["a", "b"],
        scene_names=scenes,
        scores={},
        sounds=[],
        films=[],
        fingerprint="0",
        embedded=False,
    )


@st.composite
def tables(draw: st.DrawFn) -> DataSet:
    """Draw clips of some scenes in groups, with up to four clips of any scene in any group."""
    scenes = draw(st.integers(2, 6))
    groups = draw(st.integers(4, 25))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    # Every group has some of the scenes; how many clips of each differs.
    has = rng.random((groups, scenes)) < draw(st.floats(0.3, 1.0))
    counts = has * rng.integers(1, 5, (groups, scenes))
    assume((has.sum(0) >= 5).all())
    assume((has.sum(1) > 1).any())
    rows: list[Row] = []
    for group, scene in np.argwhere(counts):
        rows += [(int(scene), f"g{group}", "train")] * int(counts[group, scene])
    rows += [(scene, f"test {scene}", "test") for scene in range(scenes)]
    rng.shuffle(rows)
    return make_data([(int(scene), str(group), str(split)) for scene, group, split in rows])


def check_parts(data: DataSet, split: Split) -> float:
    """Check what must hold of any split. Returns the share of training clips held out."""
    rows = split_rows(data, split)
    parts = [{data.clips[row].location for row in part} for part in rows]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & parts[2]
    assert sorted(np.concatenate(rows)) == list(range(len(data.clips)))
    assert all(len(part) for part in rows)
    assert set(data.scenes[rows.train]) == set(data.scenes)
    return len(rows.validation) / (len(rows.train) + len(rows.validation))


@settings(max_examples=60, deadline=None)
@given(tables(), st.floats(0.05, 0.6), st.integers(0, 9))
def test_a_share_of_shared_groups(data: DataSet, share: float, seed: int):
    held_out = check_parts(data, Split(validation=share, seed=seed))
    # Whole groups are held out: half of the largest is as near as one may ask.
    training = [clip for clip in data.clips if clip.split == "train"]
    largest = max(Counter(clip.location for clip in training).values()) / len(training)
    assert abs(held_out - share) <= largest + 0.02


@settings(max_examples=30, deadline=None)
@given(tables(), st.integers(2, 5), st.integers(0, 9))
def test_folds_of_shared_groups(data: DataSet, folds: int, seed: int):
    """Every training clip is validated once, or a fold without all scenes is refused."""
    held: list[int] = []
    for fold in range(folds):
        split = Split(rule="fold", fold=fold, folds=folds, seed=seed)
        try:
            share = check_parts(data, split)
        except UserError:
            with pytest.raises(UserError, match=r"leaves no training clips of|no clips are left"):
                split_rows(data, split)
            return
        assert share < 0.9
        held += split_rows(data, split).validation.tolist()
    assert sorted(held) == [row for row, clip in enumerate(data.clips) if clip.split == "train"]


def test_days_that_all_scenes_share():
    """Drawn scene by scene, five scenes held out up to half of ten days where a tenth was asked."""
    rows = []
    for day in range(10):
        for scene in range(5):
            rows += [(scene, f"day {day}", "train")] * (2 + (day + scene) % 3)
    data = make_data(rows)
    for seed in range(10):
        held_out = check_parts_of_training(data, Split(validation=0.1, seed=seed))
        assert len(held_out) == 1
    days: list[str] = []
    for fold in range(5):
        days += check_parts_of_training(data, Split(rule="fold", fold=fold, folds=5))
    assert sorted(days) == [f"day {day}" for day in range(10)]
    drawn = {tuple(check_parts_of_training(data, Split(seed=seed))) for seed in range(20)}
    assert len(drawn) > 1  # the seed draws


def check_parts_of_training(data: DataSet, split: Split) -> list[str]:
    """Check that every scene is in both parts. Returns the groups held out."""
    rows = split_rows(data, split)
    for part in (rows.train, rows.validation):
        assert set(data.scenes[part]) == set(data.scenes)
    return sorted({data.clips[row].location for row in rows.validation})


def test_without_shared_groups_a_split_is_what_it_was():
    """The rows of TAU and of the embedded scenes, on which all records stand."""
    rows = []
    for scene in range(3):
        rows += [(scene, f"{scene}-{place}", "train") for place in range(6) for _ in range(2)]
    data = make_data(rows)
    for split, expected in (
        (Split(validation=0.3, seed=1), "0-0 0-4 1-2 1-3 2-1 2-5"),
        (Split(rule="fold", fold=1, folds=3, seed=2), "0-2 0-4 1-3 1-4 2-3 2-4"),
        (Split(rule="baseline", validation=0.4), "0-1 0-3 1-2 1-4 2-2 2-5"),
    ):
        assert check_parts_of_training(data, split) == expected.split()


def test_empty_parts_are_refused():
    only_test = make_data([(scene, f"g{scene}", "test") for scene in (0, 1)])
    with pytest.raises(UserError, match=r"^own: no clips are left for the training part; "):
        split_rows(only_test, Split())
    assert select_rows(only_test, Split(), "test").tolist() == [0, 1]  # as `evaluate` reads it

    # The baseline's rule draws for training until there is nothing to hold out, or nothing at all.
    data = make_data([(scene, f"{scene}{place}", "train") for scene in (0, 1) for place in (0, 1)])
    with pytest.raises(UserError, match="no clips are left for the training part"):
        split_rows(data, Split(rule="baseline", validation=0.9))


def test_what_cannot_be_drawn_of_shared_groups_is_refused():
    shared = [(scene, f"day {day}", "train") for scene in (0, 1) for day in range(4)]
    with pytest.raises(UserError, match=r"draws scene by scene, .*; split.rule=share or fold$"):
        split_rows(make_data(shared), Split(rule="baseline"))
    with pytest.raises(UserError) as caught:
        split_rows(make_data([*shared, (2, "day 0", "train")]), Split())
    fault = "own: scene 2 has 1 training location; two or more, to hold one out"
    assert str(caught.value) == fault


def test_the_share_held_out_is_told():
    shared = [(scene, f"day {day}", "train") for scene in (0, 1) for day in range(4)]
    text = describe_split(make_data(shared), Split(validation=0.25))
    assert text == "validation: 2 of 8 training clips (25.0 %)"
    # A third scene in two of thirty days is seldom in a tenth of them.
    days = [(scene, f"day {day}", "train") for scene in (0, 1) for day in range(30)]
    rare = make_data([*days, (2, "day 0", "train"), (2, "day 1", "train")])
    text = describe_split(rare, Split(validation=0.1))
    assert text == "validation: 6 of 62 training clips (9.7 %), none of scene 2"
