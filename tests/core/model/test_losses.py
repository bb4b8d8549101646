"""Eq. 1, 2 and 7 against plain Python, and which terms exist when."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from avsc_core.labels import COARSE_CLASSES, COARSE_OF_SCENE, SCENES
from avsc_core.model import build_model
from avsc_core.model.alignment import alignment_losses
from avsc_core.model.losses import balance_classes, build_losses, coarsen, scene_loss, tagging_loss
from avsc_core.resolve import parse_set, resolve
from tests.builders.configs import TINY


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 9))
def test_tagging_loss_is_the_equation(seed: int, clips: int, classes: int):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(clips, classes, generator=generator)
    labels = torch.randint(0, 2, (clips, classes), generator=generator)
    total = 0.0
    for row, truth in zip(logits.tolist(), labels.tolist(), strict=True):
        for logit, label in zip(row, truth, strict=True):
            p = 1 / (1 + math.exp(-logit))
            total -= label * math.log(p) + (1 - label) * math.log(1 - p)
    assert float(tagging_loss(logits, labels, per_class=False)) == pytest.approx(
        total / clips, rel=1e-5
    )
    assert float(tagging_loss(logits, labels, per_class=True)) == pytest.approx(
        total / clips / classes, rel=1e-5
    )


def terms(*sets: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The terms of a tiny model, and what they should be."""
    torch.manual_seed(0)
    config = resolve("demo", parse_set([*TINY, *sets]))
    model = build_model(config).eval()
    outputs = model(torch.randn(4, 64, 128), torch.randn(4, 1, 3, 32, 32))
    events, objects = (torch.randint(0, 2, (4, 64)).float() for _ in range(2))
    scenes = torch.tensor([0, 3, 9, 3])
    found = build_losses(config)(
        model, outputs, events, objects, scenes, torch.Generator().manual_seed(1)
    )
    rows = outputs.scene_logits.double().tolist()
    costs = [
        math.log(sum(map(math.exp, row))) - row[scene]
        for row, scene in zip(rows, scenes.tolist(), strict=True)
    ]
    wanted = {"scene": torch.tensor(sum(costs) / len(costs))}
    if outputs.event_logits is not None and outputs.object_logits is not None:
        weights = model.audio.classifier.weight, model.visual.classifier.weight
        probs = outputs.event_logits.sigmoid(), outputs.object_logits.sigmoid()
        settings = config.alignment
        generator = torch.Generator().manual_seed(1)
        pair = alignment_losses(*weights, *probs, settings.k, settings.mode, generator)
        wanted |= dict(zip(("e2o", "o2e"), pair, strict=True))
    return found, wanted


@pytest.mark.parametrize("mode", ["lkm", "rkm"])
def test_the_total_is_the_weighted_sum(mode: str):
    lambdas = {"event": 0.5, "object": 2.0, "e2o": 3.0, "o2e": 0.25, "scene": 7.0}
    found, wanted = terms(
        f"alignment.mode={mode}",
        *(f"loss_weights.{name}={value}" for name, value in lambdas.items()),
    )
    for name, value in wanted.items():
        assert torch.allclose(found[name], value), name
    values = {name: float(term.detach()) for name, term in found.items()}
    assert values["total"] == pytest.approx(
        sum(lambdas[name] * values[name] for name in lambdas), rel=1e-6
    )


@pytest.mark.parametrize(
    ("sets", "names"),
    [
        ((), {"event", "object", "e2o", "o2e", "scene"}),
        (("alignment.enabled=false",), {"event", "object", "scene"}),
        (("loss_weights.e2o=0", "loss_weights.o2e=0"), {"event", "object", "scene"}),
        (("modality=audio",), {"event", "scene"}),
        (("modality=visual",), {"object", "scene"}),
    ],
)
def test_which_terms_exist(sets: tuple[str, ...], names: set[str]):
    assert set(terms(*sets)[0]) == names | {"total"}


def test_autocast_leaves_the_losses_alone():
    torch.manual_seed(0)
    config = resolve("demo", parse_set(TINY))
    model = build_model(config).eval()
    outputs = model(torch.randn(4, 64, 128), torch.randn(4, 1, 3, 32, 32))
    labels = *(torch.randint(0, 2, (4, 64)) for _ in range(2)), torch.tensor([0, 3, 9, 3])
    plain = build_losses(config)(model, outputs, *labels, None)
    with torch.autocast("cpu", torch.bfloat16):
        within = build_losses(config)(model, outputs, *labels, None)
        whole = build_losses(config)(
            model, model(torch.randn(4, 64, 128), torch.randn(4, 1, 3, 32, 32)), *labels, None
        )
    assert all(torch.equal(within[name], plain[name]) for name in plain)
    assert {term.dtype for term in whole.values()} == {torch.float32}


@given(
    seed=st.integers(0, 2**31),
    smoothing=st.sampled_from([0.0, 0.1, 0.4]),
    weighted=st.booleans(),
    mixed=st.booleans(),
)
def test_scene_loss_is_its_definition(seed: int, smoothing: float, weighted: bool, mixed: bool):
    """Smoothed targets, each scene with its weight, mean over clips; mixed clips have the same."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(6, 10, generator=generator)
    scenes = torch.randint(0, 10, (6,), generator=generator)
    targets = torch.eye(10)[scenes]
    if mixed:
        targets = 0.7 * targets + 0.3 * targets.flip(0)
    weights = 2 * torch.rand(10, generator=generator) if weighted else None
    found = scene_loss(logits, targets if mixed else scenes, weights, smoothing)

    total = 0.0
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        whole = sum(math.exp(logit) for logit in row)
        for number, (logit, share) in enumerate(zip(row, target, strict=True)):
            share = (1 - smoothing) * share + smoothing / 10
            weight = float(weights[number]) if weights is not None else 1.0
            total -= weight * share * math.log(math.exp(logit) / whole)
    assert float(found) == pytest.approx(total / 6, rel=1e-5)


def test_the_plain_scene_loss_is_the_paper_s():
    logits, scenes = torch.randn(6, 10), torch.randint(0, 10, (6,))
    plain = torch.nn.functional.cross_entropy(logits, scenes)
    assert torch.equal(scene_loss(logits, scenes, None, 0.0), plain)


def test_balanced_weights_are_those_of_scikit_learn():
    """n / (S n_c), whose mean over the clips is 1; a scene without clips is left alone."""
    scenes = np.random.default_rng(0).choice(10, 200, p=np.arange(1, 11) / 55)
    weights = balance_classes(scenes, 10)
    wanted = compute_class_weight("balanced", classes=np.arange(10), y=scenes)
    assert weights.tolist() == pytest.approx(wanted.tolist(), rel=1e-6)
    assert float(weights[scenes].mean()) == pytest.approx(1)
    assert torch.isfinite(balance_classes(scenes[scenes > 3], 10)).all()


def test_coarse_classes_cover_the_scenes():
    assert tuple(COARSE_OF_SCENE) == SCENES
    assert set(COARSE_OF_SCENE.values()) == set(COARSE_CLASSES)
    assert coarsen(torch.tensor([0, 1, 4]), 10).tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]
    mixed = torch.zeros(1, 10)
    mixed[0, [0, 3, 9]] = torch.tensor([0.5, 0.25, 0.25])  # airport, metro_station, tram
    assert coarsen(mixed, 10).tolist() == [[0.75, 0, 0.25]]


@pytest.mark.parametrize("kind", ["semantic", "none", "intermediate", "decision", "hybrid"])
def test_the_coarse_head_is_a_sixth_loss(kind: str):
    found, _ = terms("losses.coarse=0.5", f"fusion.kind={kind}", "loss_weights.scene=2")
    found = {name: term.detach() for name, term in found.items()}
    torch.manual_seed(0)
    config = resolve("demo", parse_set([*TINY, "losses.coarse=0.5", f"fusion.kind={kind}"]))
    model = build_model(config).eval()
    outputs = model(torch.randn(4, 64, 128), torch.randn(4, 1, 3, 32, 32))
    assert outputs.coarse_logits.shape == (4, 3)
    wanted = 0.0
    for row, scene in zip(outputs.coarse_logits.tolist(), (0, 3, 9, 3), strict=True):
        coarse = COARSE_CLASSES.index(COARSE_OF_SCENE[SCENES[scene]])
        wanted += math.log(sum(math.exp(logit) for logit in row)) - row[coarse]
    assert float(found["coarse"]) == pytest.approx(wanted / 4, rel=1e-5)
    others = sum(float(found[name]) for name in ("event", "object", "e2o", "o2e"))
    total = others + 2 * float(found["scene"]) + 0.5 * float(found["coarse"])
    assert float(found["total"]) == pytest.approx(total, rel=1e-5)


def test_a_coarse_head_leaves_the_other_weights_as_they_are():
    torch.manual_seed(0)
    plain = build_model(resolve("demo", parse_set(TINY))).state_dict()
    torch.manual_seed(0)
    coarse = build_model(resolve("demo", parse_set([*TINY, "losses.coarse=1"]))).state_dict()
    assert all(torch.equal(coarse[name], tensor) for name, tensor in plain.items())
    assert all(name.startswith("coarse.") for name in set(coarse) - set(plain))
