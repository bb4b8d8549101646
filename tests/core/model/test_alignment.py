"""CEOA against a float64 transcription of Eq. 3 and Eq. 4, entry by entry; what RKM draws."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from avsc_core.model.alignment import alignment_losses, pick_classes


def naive_direction(
    own: Tensor, other: Tensor, own_rows: list[int], positive: list[int], negative: list[int]
) -> float:
    """Eq. 3 for one clip: loops over i and j, in Python's own floats."""
    k = len(positive)
    total = 0.0
    for i in range(k):
        for j in range(k):
            anchor = own[own_rows[i]].tolist()
            near = sum(a * b for a, b in zip(anchor, other[positive[j]].tolist(), strict=True))
            far = sum(a * b for a, b in zip(anchor, other[negative[j]].tolist(), strict=True))
            total += 1 / (1 + math.exp(-(near - far)))
    return -math.log(total / k**2)


def naive(
    event_weight: Tensor,
    object_weight: Tensor,
    event_prob: Tensor,
    object_prob: Tensor,
    k: int,
    negatives: list[Tensor],
) -> tuple[float, float]:
    """Both losses, with negatives (B,K) of objects and events given."""
    e2o, o2e = [], []
    for clip in range(len(event_prob)):
        ranked = [
            sorted(range(len(prob)), key=lambda c, prob=prob: -prob[c])[:k]
            for prob in (event_prob[clip].tolist(), object_prob[clip].tolist())
        ]
        events, objects = ranked
        far_objects, far_events = (each[clip].tolist() for each in negatives)
        e2o.append(naive_direction(event_weight, object_weight, events, objects, far_objects))
        o2e.append(naive_direction(object_weight, event_weight, objects, events, far_events))
    return sum(e2o) / len(e2o), sum(o2e) / len(o2e)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    events, objects = draw(st.integers(2, 12)), draw(st.integers(2, 12))
    width, clips = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    k = draw(st.integers(1, min(events, objects) // 2))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.1, 1.0, 4.0]))
    weights = [
        scale * torch.randn(n, width, generator=generator, dtype=torch.float64)
        for n in (events, objects)
    ]
    probs = [
        torch.rand(clips, n, generator=generator, dtype=torch.float64) for n in (events, objects)
    ]
    return *weights, *probs, k


@settings(deadline=None, max_examples=60)
@given(problems())
def test_lkm_is_the_equations(problem: tuple[Tensor, Tensor, Tensor, Tensor, int]):
    *tensors, k = problem
    negatives = [
        torch.tensor(
            [sorted(range(len(row)), key=lambda c, row=row: row[c])[:k] for row in prob.tolist()]
        )
        for prob in (tensors[3], tensors[2])
    ]
    expected = naive(*tensors, k, negatives)
    assert [float(loss) for loss in alignment_losses(*tensors, k, "lkm")] == pytest.approx(
        expected, rel=1e-9
    )


@settings(deadline=None, max_examples=60)
@given(problems(), st.integers(0, 2**31))
def test_rkm_is_the_equations(problem: tuple[Tensor, Tensor, Tensor, Tensor, int], seed: int):
    *tensors, k = problem
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        pick_classes(prob, k, "rkm", generator)[1] for prob in (tensors[3], tensors[2])
    ]  # objects first, then events
    losses = alignment_losses(*tensors, k, "rkm", torch.Generator().manual_seed(seed))
    assert [float(loss) for loss in losses] == pytest.approx(naive(*tensors, k, drawn), rel=1e-9)


def test_float32_survives_extreme_scores():
    event_weight, object_weight = torch.full((4, 2), 300.0), torch.full((4, 2), 300.0)
    object_weight[:2] *= -1
    event_weight.requires_grad_()
    prob = torch.tensor([[0.9, 0.8, 0.1, 0.2]])
    for loss in alignment_losses(event_weight, object_weight, prob, prob, 2, "lkm"):
        assert torch.isfinite(loss)
    e2o, _ = alignment_losses(event_weight, object_weight, prob, prob, 2, "lkm")
    assert e2o.item() == pytest.approx(2 * 300 * 600, rel=1e-5)
    e2o.backward()
    assert torch.isfinite(event_weight.grad).all()


def test_gradient_reaches_the_weights_only():
    tensors = [torch.rand(size, requires_grad=True) for size in ((8, 3), (6, 3), (2, 8), (2, 6))]
    sum(alignment_losses(*tensors, 3, "lkm")).backward()
    assert [tensor.grad is not None for tensor in tensors] == [True, True, False, False]


def test_weights_pass_gradcheck():
    weights = [torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (8, 6)]
    probs = [torch.rand(2, n, dtype=torch.float64) for n in (8, 6)]
    assert torch.autograd.gradcheck(lambda e, o: alignment_losses(e, o, *probs, 3, "lkm"), weights)


def test_equal_probabilities_go_by_index():
    positive, negative = pick_classes(torch.full((1, 6), 0.5), 2, "lkm")
    assert positive.tolist() == [[0, 1]]
    assert negative.tolist() == [[0, 1]]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_rkm_never_draws_a_positive_and_repeats_with_its_seed(k: int):
    prob = torch.rand(500, 10)
    positive, negative = pick_classes(prob, k, "rkm", torch.Generator().manual_seed(3))
    for p, n in zip(positive.tolist(), negative.tolist(), strict=True):
        assert not set(p) & set(n)
        assert len(set(n)) == k
    assert torch.equal(negative, pick_classes(prob, k, "rkm", torch.Generator().manual_seed(3))[1])
    if k < 5:  # at half the classes there is only one set to draw
        assert not torch.equal(
            negative, pick_classes(prob, k, "rkm", torch.Generator().manual_seed(4))[1]
        )


def test_rkm_is_uniform():
    prob = torch.linspace(1, 0, 12).repeat(20000, 1)  # classes 0, 1, 2 are the positives
    _, negative = pick_classes(prob, 3, "rkm", torch.Generator().manual_seed(0))
    counts = torch.bincount(negative.flatten(), minlength=12)
    assert counts[:3].sum() == 0
    assert chisquare(counts[3:].numpy()).pvalue > 1e-3
    first = torch.bincount(negative[:, 0], minlength=12)[
        3:
    ]  # the order decides which positive each one meets
    assert chisquare(first.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("k", "mode"), [(0, "lkm"), (4, "lkm"), (4, "rkm"), (2, "random")])
def test_nonsense_is_refused(k: int, mode: str):
    with pytest.raises(ValueError):
        alignment_losses(
            torch.rand(8, 2), torch.rand(7, 2), torch.rand(1, 8), torch.rand(1, 7), k, mode
        )
