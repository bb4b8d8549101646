"""The catalogue, spaces and samplers: one contract for every entry of every dict."""

import copy
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from avsc_core.config import Audio, Config, Training
from avsc_core.errors import UserError
from avsc_core.resolve import Override, flatten, list_fields, resolve, trial_key
from search_spaces.building import build_space
from search_spaces.catalogue import (
    AUDIO_ENCODER_FIELDS,
    CATALOGUE,
    CONDITIONS,
    GROUPS,
    INACTIVE_VALUES,
    ONE_METRIC_SAMPLERS,
    SAMPLER_NAMES,
    VISUAL_ENCODER_FIELDS,
)
from search_spaces.domains import Choice, Domain, Float, Int
from search_spaces.inactive import reset_inactive
from search_spaces.sampling import SAMPLERS, Sampler
from search_spaces.space import Space

BASE = resolve("demo")


def where(key: str) -> str:
    return f"study.yaml:{key}"


def ends(domain: Domain) -> list[object]:
    return list(domain.values) if isinstance(domain, Choice) else [domain.low, domain.high]


@pytest.mark.parametrize("key", CATALOGUE)
def test_every_dimension_is_a_field_that_accepts_its_ends(key: str):
    assert key in list_fields()
    needs = [
        Override(other, wanted[0], "test") for other, wanted in CONDITIONS.get(key, {}).items()
    ]
    domain = build_space({key: None}, resolve("paper", needs), where).dimensions[key]
    for value in ends(domain):
        assert domain.contains(value)
        config = resolve("paper", [Override(key, value, "test")])
        assert dict(flatten(config.model_dump()))[key] == value


# Settings of which CONDITIONS names a range, which must end where the setting's own does.
SECTIONS_OF_RANGES = {
    "audio.pieces": (Audio, "pieces"),
    "training.heads_first": (Training, "heads_first"),
}


def test_groups_and_conditions_name_dimensions():
    assert {key for members in GROUPS.values() for key in members} <= set(CATALOGUE)
    encoders = {
        *AUDIO_ENCODER_FIELDS,
        *VISUAL_ENCODER_FIELDS,
        "audio.encodings",
        "visual.encodings",
    }
    assert set(CONDITIONS) - set(CATALOGUE) == encoders <= set(list_fields())
    for needs in CONDITIONS.values():
        for other, wanted in needs.items():
            if other in encoders:
                assert wanted == (None,)
            elif isinstance(wanted, range):
                make_section, name = SECTIONS_OF_RANGES[other]
                assert make_section.model_validate({name: wanted[-1]})
                with pytest.raises(ValidationError):
                    make_section.model_validate({name: wanted[-1] + 1})
            else:
                assert all(map(CATALOGUE[other].contains, wanted))
    assert set(INACTIVE_VALUES) <= set(CONDITIONS)


def test_inactive_settings_get_one_value():
    """Configurations that train the same model are equal once their inactive settings are reset."""
    off = [Override("alignment.enabled", False, "t")]
    one = reset_inactive(resolve("demo", [*off, Override("alignment.k", 7, "t")]))
    other = reset_inactive(
        resolve(
            "demo",
            [*off, Override("alignment.mode", "rkm", "t"), Override("loss_weights.e2o", 9, "t")],
        )
    )
    assert trial_key(one) == trial_key(other)
    assert (one.alignment.k, one.loss_weights.e2o, one.loss_weights.o2e) == (1, 0.0, 0.0)
    heard = reset_inactive(
        resolve(
            "demo", [Override("modality", "audio", "t"), Override("fusion.kind", "hybrid", "t")]
        )
    )
    assert trial_key(heard) == trial_key(
        reset_inactive(resolve("demo", [Override("modality", "audio", "t")]))
    )
    for key, value in (
        ("augmentation.gain_db", 3),
        ("pseudo.event_threshold", 0.5),
        ("audio.freeze", "all"),
    ):
        seen = [Override("modality", "visual", "t")]
        unheard = reset_inactive(resolve("demo", [*seen, Override(key, value, "t")]))
        assert trial_key(unheard) == trial_key(reset_inactive(resolve("demo", seen)))
    # without a first stage there is no second one
    staged = [Override("training.second_stage", 0.1, "t")]
    assert reset_inactive(resolve("demo", staged)) == BASE
    staged.append(Override("training.heads_first", 1, "t"))
    assert reset_inactive(resolve("demo", staged)).training.second_stage == 0.1
    sets = {"loss_weights.event": 0, "loss_weights.scene": 0, "modality": "audio"}
    nothing = resolve("demo", [Override(key, value, "t") for key, value in sets.items()])
    with pytest.raises(ValueError, match="every active loss weight is 0"):
        reset_inactive(nothing)
    assert reset_inactive(BASE) == BASE
    assert trial_key(one) != trial_key(BASE)


@pytest.mark.parametrize(
    ("spec", "base", "fault"),
    [
        (
            {"loss_weight": None},
            BASE,
            "study.yaml:loss_weight: unknown dimension 'loss_weight'; did you mean 'loss_weights'?",
        ),
        (
            {},
            BASE,
            "study.yaml:: the search space is empty; dimensions such as contrast, loss_weights, "
            "modules; name at least one",
        ),
        (
            {"alignment.k": {"high": 40}},
            BASE,
            "study.yaml:alignment.k: alignment.k: 40 is above half the classes; allowed: 1 to 32",
        ),
        (
            {"alignment.k": {"low": 40}},
            BASE,
            "study.yaml:alignment.k: alignment.k: 40 is above half the classes; allowed: 1 to 32",
        ),
        (
            {"alignment.k": [5, 33]},
            BASE,
            "study.yaml:alignment.k: alignment.k: 33 is above half the classes; allowed: 1 to 32",
        ),
        (
            {"contrast": [1]},
            BASE,
            "study.yaml:contrast: contrast is a group; its bounds cannot be narrowed together; "
            "name its members",
        ),
        (
            {"alignment.k": None},
            resolve("demo", [Override("alignment.enabled", False, "t")]),
            "study.yaml:alignment.k: alignment.k has an effect only when alignment.enabled is "
            "True and modality is audio-visual; leave it out",
        ),
    ],
)
def test_space_faults(spec: dict[str, object], base: Config, fault: str):
    with pytest.raises(UserError) as caught:
        build_space(spec, base, where)
    assert str(caught.value) == fault


def test_a_full_k_ends_at_half_the_classes():
    assert build_space({"alignment.k": None}, BASE, where).dimensions["alignment.k"] == Int(1, 32)


@pytest.mark.parametrize(
    ("narrowing", "bounds"),
    [({"low": 2}, Int(2, 32)), ({"log": True}, Int(1, 32, log=True)), ({}, Int(1, 32))],
)
def test_half_the_classes_limits_a_file_that_names_no_end(
    narrowing: dict[str, object], bounds: Int
):
    assert build_space({"alignment.k": narrowing}, BASE, where).dimensions["alignment.k"] == bounds


def test_a_line_of_its_own_says_more_than_the_group_in_either_order():
    own = {"loss_weights.event": {"high": 10}}
    for spec in ({"loss_weights": None, **own}, {**own, "loss_weights": None}):
        dimensions = build_space(spec, BASE, where).dimensions
        assert len(dimensions) == 5
        assert dimensions["loss_weights.event"] == Float(0.01, 10.0, log=True)
        assert dimensions["loss_weights.scene"] == CATALOGUE["loss_weights.scene"]


def test_choices_of_a_real_number_may_be_written_whole():
    space = build_space({"loss_weights.scene": [1, 10]}, BASE, where)
    assert space.hash() == build_space({"loss_weights.scene": [1.0, 10.0]}, BASE, where).hash()
    assert space.contains({"loss_weights.scene": BASE.loss_weights.scene})


def test_the_hash_knows_bounds_and_not_order():
    one = build_space({"alignment.mode": None, "training.warmup": None}, BASE, where)
    two = build_space({"training.warmup": None, "alignment.mode": None}, BASE, where)
    three = build_space({"training.warmup": {"high": 0.4}, "alignment.mode": None}, BASE, where)
    assert one.hash() == two.hash() != three.hash()


@pytest.fixture(scope="module")
def space() -> Space:
    """Every kind of dimension, with conditions."""
    spec = {
        "alignment.k": None,
        "loss_weights.e2o": None,
        "alignment.enabled": None,
        "training.warmup": {"low": 0.0, "high": 0.2, "step": 0.1},
        "fusion.hidden": {"low": 16, "high": 64},
        "alignment.mode": None,
    }
    return build_space(spec, BASE, where)


def goodness(values: dict[str, object]) -> float:
    return float(values.get("alignment.k", 0))


def trials(
    space: Space, name: str, count: int, seed: int = 0, skip: int = 0, metrics: int = 1
) -> list[dict[str, object]]:
    sampler = Sampler(space, name, seed, ["max", "min"][:metrics])
    asked = []
    for turn in range(count + skip):
        answer = sampler.ask()
        if answer is None:
            break
        number, values = answer
        state = ("complete", "complete", "complete", "pruned", "failed")[turn % 5]
        told = [goodness(values), values.get("training.warmup", 0.0)][:metrics]
        sampler.tell(number, state, told if state == "complete" else None)
        asked.append(copy.deepcopy(values))
    return asked[skip:]


def test_names_agree():
    assert tuple(SAMPLERS) == SAMPLER_NAMES
    assert set(ONE_METRIC_SAMPLERS) <= set(SAMPLER_NAMES)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.filterwarnings("ignore")
class TestEverySampler:
    """What every sampler must do."""

    def test_values_are_legal_and_conditions_respected(self, name: str, space: Space):
        for values in trials(space, name, 30):
            assert space.contains(values)
            aligned = {"alignment.k", "alignment.mode", "loss_weights.e2o"}
            assert set(values) == set(space.dimensions) - (
                set() if values["alignment.enabled"] else aligned
            )
            settings = dict(flatten(BASE.model_dump())) | values
            resolve("demo", [Override(key, value, "test") for key, value in settings.items()])

    def test_both_ends_are_reached(self, name: str):
        small = build_space(
            {
                "alignment.k": {"low": 1, "high": 3},
                "alignment.mode": None,
                "training.batch_size": [4, 64],
                "training.warmup": {"high": 0.2, "step": 0.1},
            },
            BASE,
            where,
        )
        asked = trials(small, name, 60)
        for key, domain in small.dimensions.items():
            assert {values[key] for values in asked} >= set(ends(domain))

    def test_known_points_come_first(self, name: str, space: Space):
        first = [{"alignment.enabled": False, "training.warmup": 0.1, "fusion.hidden": 20}]
        sampler = Sampler(space, name, 0, ["max"], first)
        answer = sampler.ask()
        assert answer is not None
        assert answer[1] == first[0]
        sampler.tell(answer[0], "complete", [1.0])
        again = sampler.ask()
        assert again is not None
        assert again[1] != first[0]

    def test_two_metrics(self, name: str, space: Space):
        if name in ONE_METRIC_SAMPLERS:
            pytest.skip("takes one metric, and the reader of study files says so")
        assert all(map(space.contains, trials(space, name, 25, metrics=2)))

    def test_the_seed_repeats_it(self, name: str, space: Space):
        assert trials(space, name, 14, seed=4) == trials(space, name, 14, seed=4)
        if name != "brute_force":  # which has no choice
            assert trials(space, name, 14, seed=4) != trials(space, name, 14, seed=5)

    def test_a_replayed_study_goes_on(self, name: str, space: Space):
        sampler = Sampler(space, name, 7, ["max"])
        for values in trials(space, name, 15):
            sampler.replay(values, "complete", [goodness(values)])
        sampler.replay(trials(space, name, 1)[0], "pruned", None)
        answer = sampler.ask()
        assert answer is not None
        assert space.contains(answer[1])
        sampler.tell(answer[0], "complete", [1.0])
        assert len(sampler.study.trials) == 17

    def test_every_point_is_asked_for_once(self, name: str):
        """Whatever a sampler repeats is passed over, in this invocation and in a later one, until
        the space is used up."""
        small = build_space({"alignment.k": {"high": 8}, "alignment.mode": None}, BASE, where)
        seen: list[dict[str, object]] = []
        for invocation, most in enumerate((9, 100)):
            sampler = Sampler(small, name, invocation, ["max"])
            for values in seen:
                sampler.replay(values, "complete", [goodness(values)])
            for _ in range(most):
                asked = sampler.ask(lambda values: values in seen)
                if asked is None:
                    break
                seen.append(asked[1])
                sampler.tell(asked[0], "complete", [goodness(asked[1])])
        assert sorted(map(str, seen)) == sorted(map(str, small.iterate_points()))

    def test_known_points_that_are_known_already_are_passed_over(self, name: str, space: Space):
        first = [
            {"alignment.enabled": False, "training.warmup": 0.1, "fusion.hidden": each}
            for each in range(16, 64)
        ]
        asked = Sampler(space, name, 0, ["max"], first).ask(lambda values: values in first[:-1])
        assert asked is not None
        assert asked[1] == first[-1]


@pytest.mark.parametrize("name", ["tpe", "tpe_multivariate", "gp", "cmaes", "nsga2"])
@pytest.mark.filterwarnings("ignore")
def test_what_was_known_before_steers_a_sampler(name: str):
    """All that learn also learn from what they did not ask for: arms, a study that goes on, a warm
    start."""
    wide = build_space({"loss_weights": None}, BASE, where)

    def value(values: dict[str, object]) -> float:
        return -sum(
            float(np.log10(float(each)) - 1.9) ** 2 for each in values.values()
        )  # best near a corner

    known = trials(wide, "random", 40)
    sampler = Sampler(wide, name, 3, ["max"])
    for values in known:
        sampler.replay(values, "complete", [value(values)])
    asked = np.mean([value(sampler.ask()[1]) for _ in range(10)])
    assert asked > np.quantile([value(values) for values in known], 0.75)


@pytest.mark.filterwarnings("ignore:The distribution is specified")  # 0.5 is not a whole step
def test_whatever_a_stepped_space_contains_can_be_replayed():
    stepped = build_space({"training.warmup": {"low": 0.0, "high": 0.5, "step": 0.2}}, BASE, where)
    warmups = [each / 20 for each in range(11)]
    inside = [value for value in warmups if stepped.contains({"training.warmup": value})]
    assert inside == [0.0, 0.2, 0.4]
    for value in inside:
        Sampler(stepped, "tpe", 0, ["max"]).replay({"training.warmup": value}, "complete", [1.0])
    assert [point["training.warmup"] for point in stepped.iterate_points()] == inside


def test_brute_force_asks_every_point_once():
    """Conditional dimensions count only where they exist: 1 + 3 x 2 points."""
    spec = {"alignment.enabled": None, "alignment.k": [1, 2, 3], "alignment.mode": None}
    asked = trials(build_space(spec, BASE, where), "brute_force", 50)
    assert len(asked) == 7
    assert len({str(sorted(values.items())) for values in asked}) == 7


def test_points_are_counted_without_making_them():
    spec = {
        "modality": None,
        "alignment.enabled": None,
        "fusion.kind": None,
        "fusion.decision": None,
    }
    spec |= {
        "alignment.k": [1, 2, 3],
        "training.warmup": {"step": 0.1},
        "augmentation.rand_augment": None,
    }
    space = build_space(spec, BASE, where)
    assert space.count() == len(list(space.iterate_points()))
    large = build_space({"training.warmup": {"step": 1e-9}}, BASE, where)
    assert large.count() > 10**8
    assert next(large.iterate_points()) == {"training.warmup": 0.0}


@pytest.mark.parametrize(
    ("spec", "sets", "fault"),
    [
        (
            {"augmentation.flip": None},
            {"visual.freeze": "all"},
            "augmentation.flip: augmentation.flip with visual.freeze all; its encoder runs "
            "once, without it; leave out one of them",
        ),
        (
            {"visual.freeze": None},
            {"augmentation.crop": 0.2},
            "visual.freeze: augmentation.crop with visual.freeze all; its encoder runs once, "
            "without it; leave out one of them",
        ),
        (
            {"alignment.enabled": None},
            {"loss_weights.event": 0, "loss_weights.object": 0, "loss_weights.scene": 0},
            "alignment.enabled: nothing to learn when alignment.enabled is False; a loss weight "
            "above 0 that has an effect then",
        ),
        (
            {"modality": None},
            {"loss_weights.object": 0, "loss_weights.scene": 0},
            "modality: nothing to learn when modality is visual; a loss weight above 0 that has "
            "an effect then",
        ),
    ],
)
def test_every_point_is_a_configuration(
    spec: dict[str, object], sets: dict[str, object], fault: str
):
    base = resolve("demo", [Override(key, value, "t") for key, value in sets.items()])
    with pytest.raises(UserError) as caught:
        build_space(spec, base, where)
    assert str(caught.value) == f"study.yaml:{fault}"
    build_space({"visual.freeze": ["none", 1], "modality": None, "loss_weights": None}, base, where)


def test_a_space_around_an_arm_leaves_out_what_the_arm_settles():
    spec = {"contrast": None, "loss_weights": None, "fusion.kind": None}
    space = build_space(spec, BASE, where)
    without = reset_inactive(resolve("demo", [Override("alignment.enabled", False, "t")]))
    assert set(space.within(without, ["alignment.enabled"]).dimensions) == {
        "loss_weights.event", "loss_weights.object", "loss_weights.scene", "fusion.kind",
    }  # fmt: skip
    assert "alignment.k" not in space.within(BASE, ["alignment.k"]).dimensions


def test_tpe_finds_the_better_side():
    wide = build_space({"alignment.k": None}, BASE, where)
    late = [values["alignment.k"] for values in trials(wide, "tpe", 20, skip=20)]
    early = [values["alignment.k"] for values in trials(wide, "random", 40)]
    assert sum(late) / 20 > sum(early) / 40 + 4


def test_readme_promise_a_dimension_is_one_line():
    text = (Path(__file__).parents[2] / "search_spaces" / "catalogue.py").read_text()
    for key in CATALOGUE:
        assert text.count(f'    "{key}": ') >= 1
