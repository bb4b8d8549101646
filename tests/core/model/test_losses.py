"""Eq. 1, 2 and 7 against plain Python, and which terms exist when."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from avsc_core.model import build_model
from avsc_core.model.alignment import alignment_losses
from avsc_core.model.losses import build_losses, tagging_loss
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
