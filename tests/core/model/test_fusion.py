"""SF against a float64 transcription of Eq. 5, token by token; one contract for all fusions."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from avsc_core.config import Fusion
from avsc_core.model import build_model
from avsc_core.model.attention import _choose_grids, cross_attention
from avsc_core.model.fusion import (
    FUSIONS,
    Average,
    Branches,
    CrossAttention,
    FusionLayer,
    FusionParts,
)
from avsc_core.resolve import parse_set, resolve
from tests.builders.configs import TINY


def literal(
    query: Tensor, key: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor
) -> Tensor:
    """Eq. 5 as it is written.

    Queries, keys and values of every token are d wide; heads are concatenated, then comes w_o.
    """
    heads, d = w_q.shape
    out = torch.zeros_like(query)
    for clip in range(len(query)):
        for i, q in enumerate(query[clip]):
            concatenated = []
            for h in range(heads):
                scores = torch.stack(
                    [(q * w_q[h]) @ (k * w_k[h]) / math.sqrt(d) for k in key[clip]]
                )
                attention = torch.softmax(scores, 0)
                concatenated.append(
                    sum(a * k * w_v[h] for a, k in zip(attention, key[clip], strict=True))
                )
            out[clip, i] = torch.cat(concatenated) @ w_o.flatten()
    return out


def problem(
    seed: int, clips: int, queries: int, keys: int, heads: int, d: int, scale: float = 1.0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = [
        torch.rand(clips, n, generator=generator, dtype=torch.float64) for n in (queries, keys)
    ]
    weights = [torch.randn(heads, d, generator=generator, dtype=torch.float64) for _ in range(4)]
    return [*tokens, scale * weights[0], *weights[1:]]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 5),
    st.sampled_from([0.0, 1.0, 30.0]),
)
def test_cross_attention_is_the_equation(
    seed: int, clips: int, queries: int, keys: int, heads: int, d: int, scale: float
):
    tensors = problem(seed, clips, queries, keys, heads, d, scale)
    assert torch.allclose(cross_attention(*tensors), literal(*tensors), rtol=1e-9, atol=1e-9)


def at_once(
    query: Tensor, key: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor
) -> Tensor:
    """`literal` without its loops, for sizes at which cross_attention interpolates."""
    q, k, v = (x[:, None, :, None] * w[:, None] for x, w in ((query, w_q), (key, w_k), (key, w_v)))
    return torch.einsum("bhqd,hd->bq", (q @ k.mT / math.sqrt(w_q.shape[1])).softmax(-1) @ v, w_o)


def with_slope(tensors: list[Tensor], slope: float) -> list[Tensor]:
    """The problem with the steepest head at |c| = `slope`."""
    query, key, w_q, w_k, w_v, w_o = tensors
    steepest = (w_q * w_k).sum(1).abs().max() / math.sqrt(w_q.shape[1])
    return [query, key, w_q * (slope / steepest), w_k, w_v, w_o]


def interpolates(tensors: list[Tensor]) -> bool:
    query, key, w_q, w_k, *_ = (tensor.detach().double() for tensor in tensors)
    slope = (w_q * w_k).sum(1) / math.sqrt(w_q.shape[1])
    return _choose_grids(query, key, slope, None, torch.finfo(tensors[0].dtype).eps)[0] is not None


def differences(tensors: list[Tensor]) -> list[float]:
    """Differences from float64: of the output, then of the six gradients.

    They are relative: to the sum of |g|, and to the largest entry of each gradient.
    """
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    ours, theirs = cross_attention(*tensors), at_once(*exact)
    weights = torch.linspace(0.5, 1.5, ours.numel(), dtype=torch.float64).view_as(ours)
    ours_grad = torch.autograd.grad((ours.double() * weights).sum(), tensors)
    theirs_grad = torch.autograd.grad((theirs * weights).sum(), exact)
    norms = (exact[4] * exact[5]).detach().sum(1).abs().sum()
    found = [float((ours.double() - theirs).detach().abs().max() / norms)]
    return found + [
        float((a - b).abs().max() / b.abs().max())
        for a, b in zip(ours_grad, theirs_grad, strict=True)
    ]


def test_both_transcriptions_agree():
    tensors = problem(5, 2, 6, 7, 3, 4)
    assert torch.allclose(at_once(*tensors), literal(*tensors), rtol=1e-12)


@pytest.mark.parametrize("slope", [0.0, 0.05, 1.0, 12.0, 60.0, 200.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_interpolated_form_at_the_papers_sizes(slope: float, dtype: torch.dtype):
    tensors = with_slope(problem(0, 2, 527, 1000, 4, 16), slope)
    rounded = [tensor.to(dtype) for tensor in tensors]
    assert interpolates(rounded)
    output, *gradients = (
        differences(rounded) if slope else differences(rounded)[:1]
    )  # at 0 most gradients are 0
    small = dtype == torch.float32
    assert output < (5e-7 if small else 1e-13)
    assert all(each < (1e-5 if small else 1e-9) for each in gradients)


@st.composite
def clusters(draw: st.DrawFn) -> list[Tensor]:
    """Keys in a few heaps of very unequal size, which bring the poles of f as near as they get."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    keys = draw(st.integers(1, 600))
    heaps = draw(st.lists(st.floats(0, 1), min_size=1, max_size=5))
    shares = torch.tensor([10.0 ** -draw(st.integers(0, 3)) for _ in heaps])
    key = torch.tensor(heaps, dtype=torch.float64)[
        torch.multinomial(shares, keys, True, generator=generator)
    ][None]
    key = key + draw(st.sampled_from([0, 1e-3])) * torch.rand(
        key.shape, generator=generator, dtype=torch.float64
    )
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (0.4, 0.6), (0.5, 0.5)]))
    query = torch.linspace(low, high, draw(st.integers(1, 500)), dtype=torch.float64)[None]
    weights = problem(draw(st.integers(0, 2**31)), 1, 1, 1, draw(st.integers(1, 3)), 4)[2:]
    return with_slope([query, key, *weights], draw(st.floats(0, 200)))


@settings(deadline=None, max_examples=150)
@given(clusters())
def test_any_keys_and_queries(tensors: list[Tensor]):
    single = [tensor.float() for tensor in tensors]
    exact = at_once(*(tensor.double() for tensor in single))
    norms = (tensors[4].norm(dim=1) * tensors[5].norm(dim=1)).sum()
    assert (cross_attention(*single) - exact).abs().max() <= 5e-6 * norms
    exact = at_once(*tensors)
    assert (cross_attention(*tensors) - exact).abs().max() <= 1e-12 * norms


@pytest.mark.parametrize("queries", [3, 200])
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_keys_far_from_zero_keep_their_digits(queries: int, scale: float):
    """Keys like 1000 + 1e-3 noise, at every query and interpolated."""
    query, noise, *weights = problem(0, 2, queries, 50, 2, 4, scale)
    key = 1000 + 1e-3 * noise
    tensors = [query, key, *weights]
    offset = at_once(query, key - 1000, *weights)
    # The 1000 is in every value, so it adds its product with each gain.
    gain = (weights[2] * weights[3]).sum()
    ours = cross_attention(*tensors) - gain * 1000
    assert torch.allclose(ours, offset, rtol=0, atol=1e-11 * float(gain.abs() * 1000 + 1))

    # The derivative at a query is g_h c_h times a variance of 1e-7, which 1000^2 would drown.
    query = query.requires_grad_()
    (ours_grad,) = torch.autograd.grad(cross_attention(query, key, *weights).sum(), query)
    (exact_grad,) = torch.autograd.grad(at_once(query, key - 1000, *weights).sum(), query)
    assert torch.allclose(ours_grad, exact_grad, rtol=1e-6, atol=1e-9 * exact_grad.abs().max())


@pytest.mark.parametrize("ratio", [1, 9, 99, 999])
@pytest.mark.parametrize("slope", [1.0, 12.0, 200.0])
def test_the_nearest_poles(ratio: int, slope: float):
    """Two heaps of keys put a pole of f as near to the queries as the points allow for."""
    key = torch.zeros(1, 1000, dtype=torch.float64)
    key[:, : 1000 // (ratio + 1)] = 1
    query = torch.linspace(-1, 1, 1200, dtype=torch.float64)[None]
    tensors = with_slope([query, key, *problem(9, 1, 1, 1, 1, 4)[2:]], slope)
    assert interpolates(tensors)
    output, *gradients = differences(tensors)
    assert output < 2e-13
    assert max(gradients) < 1e-9
    assert differences([tensor.float() for tensor in tensors])[0] < 1e-6


def test_queries_on_the_points():
    query, key, *weights = problem(10, 1, 200, 30, 1, 4)
    slope = (weights[0] * weights[1]).sum(1) / 2
    grid, _ = _choose_grids(query, key, slope, None, torch.finfo(torch.float64).eps)
    assert grid is not None
    points = grid.points()
    query[:, : points.shape[1]] = points
    query[:, -2:] = torch.stack([query.min(), query.max()])
    assert differences([query, key, *weights])[0] < 1e-13


def test_logits_as_tokens_and_many_clips():
    query, key, *weights = with_slope(problem(4, 200, 90, 30, 2, 8), 1.0)
    tensors = [30 * query - 20, 20 * key - 10, *weights]
    assert not interpolates([tensor.float() for tensor in tensors])  # too steep to save anything
    assert differences(tensors)[0] < 1e-11
    assert differences([query, key, *weights])[0] < 1e-13


@pytest.mark.parametrize("equal", ["queries", "keys", "both"])
def test_equal_tokens(equal: str):
    query, key, *weights = problem(6, 2, 50, 40, 3, 4)
    query = torch.full_like(query, 0.3) if equal != "keys" else query
    key = torch.full_like(key, 0.7) if equal != "queries" else key
    assert differences([query, key, *weights])[0] < 1e-12
    tensors = [tensor.requires_grad_() for tensor in (query, key, *weights)]
    gradients = torch.autograd.grad(cross_attention(*tensors).sum(), tensors)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_not_a_number_goes_through():
    """A model that diverged must show it in its loss, not stop in here."""
    for bad in (math.nan, math.inf):
        query, *others = problem(7, 2, 50, 40, 3, 4)
        query[0, 3] = bad
        assert torch.isnan(cross_attention(query, *others)[0, 3])


@pytest.mark.parametrize(("queries", "interpolated"), [(5, False), (30, True)])
def test_gradients_are_exact(queries: int, interpolated: bool):
    tensors = [
        tensor.requires_grad_() for tensor in with_slope(problem(1, 2, queries, 6, 2, 3), 0.05)
    ]
    assert interpolates(tensors) == interpolated
    assert torch.autograd.gradcheck(cross_attention, tensors)


@pytest.mark.parametrize("queries", [5, 60])
def test_compiled(queries: int):
    tensors = [
        tensor.float().requires_grad_()
        for tensor in with_slope(problem(8, 2, queries, 40, 2, 4), 1.0)
    ]
    compiled = torch.compile(cross_attention, backend="aot_eager")(*tensors)
    plain = cross_attention(*tensors)
    assert torch.allclose(compiled, plain, atol=1e-6)
    pairs = [torch.autograd.grad(each.sin().sum(), tensors) for each in (compiled, plain)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*pairs, strict=True))


def test_autocast_reaches_neither_way():
    tensors = [tensor.float().requires_grad_() for tensor in problem(2, 2, 90, 80, 2, 4)]
    exact = cross_attention(*tensors)
    gradients = torch.autograd.grad(exact.sum(), tensors)
    with torch.autocast("cpu", torch.bfloat16):
        output = cross_attention(*tensors)
        assert torch.equal(output, exact)
        assert all(map(torch.equal, torch.autograd.grad(output.sum(), tensors), gradients))
    halves = [tensor.detach().bfloat16() for tensor in tensors]
    assert cross_attention(*halves).dtype == torch.float32


@pytest.mark.gpu
def test_cross_attention_on_a_gpu():
    tensors = [tensor.float() for tensor in problem(3, 4, 527, 1000, 8, 64)]
    there = cross_attention(*(tensor.cuda() for tensor in tensors)).cpu()
    assert torch.allclose(there, cross_attention(*tensors), atol=1e-4)


def biased_literal(
    query: Tensor, key: Tensor, weight: Tensor, b_q: Tensor, b_k: Tensor, b_v: Tensor, b_o: float
):
    """Eq. 5 with a bias on every projection, as torch's MultiheadAttention has them."""
    w_q, w_k, w_v, w_o = weight
    q, k, v = (
        x[:, None, :, None] * w[:, None] + b[:, None]
        for x, w, b in ((query, w_q, b_q), (key, w_k, b_k), (key, w_v, b_v))
    )
    scores = (q @ k.mT / math.sqrt(w_q.shape[1])).softmax(-1)
    return torch.einsum("bhqd,hd->bq", scores @ v, w_o) + b_o


@pytest.mark.parametrize(("queries", "scale"), [(6, 1.0), (400, 0.3), (400, 8.0)])
def test_sf_with_biases(queries: int, scale: float):
    """As in a transformer layer; a bias of the keys changes nothing, so the module has none."""
    generator = torch.Generator().manual_seed(3)
    module = CrossAttention(3, 8, bias=True, dropout=0.0).double()
    query, key = (
        torch.rand(2, n, generator=generator, dtype=torch.float64, requires_grad=True)
        for n in (queries, 90)
    )
    with torch.no_grad():
        module.weight.mul_(scale)
        module.bias.normal_(generator=generator)
        module.output_bias.fill_(0.7)
    b_k = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    expected = biased_literal(
        query, key, module.weight, module.bias[0], b_k, module.bias[1], module.output_bias
    )
    found = module(query, key)
    assert torch.allclose(found, expected, atol=1e-9)
    parameters = [query, key, *module.parameters()]
    pairs = [torch.autograd.grad(each.sin().sum(), parameters) for each in (found, expected)]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*pairs, strict=True))


def test_attention_dropout_falls_on_what_sf_adds():
    torch.manual_seed(0)
    plain, dropping = (CrossAttention(2, 4, bias=False, dropout=share) for share in (0.0, 0.5))
    dropping.load_state_dict(plain.state_dict())
    query, key = torch.rand(4, 50), torch.rand(4, 60)
    whole, some = plain(query, key), dropping.train()(query, key)
    kept = some != 0
    assert 0.3 < kept.float().mean() < 0.7
    assert torch.allclose(some[kept], 2 * whole[kept])
    assert torch.equal(dropping.eval()(query, key), whole)


@pytest.mark.parametrize("kind", ["mean", "weighted", "class-wise"])
def test_decisions_are_averaged_as_probabilities(kind: str):
    torch.manual_seed(0)
    average = Average(3, 10, kind)
    scores = [3 * torch.randn(5, 10) for _ in range(3)]
    weight = torch.ones(3, 10)
    if average.weight is not None:
        assert torch.allclose(
            average(scores).softmax(1), torch.stack([each.softmax(1) for each in scores]).mean(0)
        )
        torch.nn.init.normal_(average.weight)
        weight = average.weight.exp().expand(3, 10)
    mixed = sum(weight[index] * each.softmax(1) for index, each in enumerate(scores)) / weight.sum(
        0
    )
    assert torch.allclose(average(scores).softmax(1), mixed / mixed.sum(1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "uses"), [("intermediate", "embedding"), ("decision", "logits"), ("hybrid", "both")]
)
def test_the_inputs_that_each_fusion_uses(kind: str, uses: str):
    torch.manual_seed(0)
    layer = partial(FusionLayer, 8, 0.0, 10, False)
    module = FUSIONS[kind](FusionParts(6, 7, 5, layer, 10, 2, 4, "probability", False, 0.0, "mean"))
    record = Branches(*(torch.randn(3, n, requires_grad=True) for n in (6, 7, 5, 5)))
    gradients = torch.autograd.grad(module(record).sin().sum(), record, allow_unused=True)
    logits, embeddings = gradients[:2], gradients[2:]
    assert all((each is not None) == (uses != "embedding") for each in logits)
    assert all((each is not None) == (uses != "logits") for each in embeddings)


def test_config_and_fusions_name_the_same():
    assert set(Fusion.model_fields["kind"].annotation.__args__) == set(FUSIONS)


@pytest.mark.parametrize("decision", ["mean", "weighted", "class-wise"])
@pytest.mark.parametrize("kind", FUSIONS)
@pytest.mark.parametrize("modality", ["audio-visual", "audio", "visual"])
def test_every_fusion(kind: str, modality: str, decision: str):
    """Shapes, finite values, a gradient for every parameter in use, and no mixing of clips."""
    torch.manual_seed(0)
    sets = [
        f"fusion.kind={kind}",
        f"modality={modality}",
        f"fusion.decision={decision}",
        "fusion.bias=true",
    ]
    config = resolve("demo", parse_set([*TINY, *sets, "fusion.dropout=0"]))
    model = build_model(config)
    inputs = torch.randn(3, 64, 128), torch.randn(3, 2, 3, 32, 32)
    outputs = model(*inputs)
    assert outputs.scene_logits.shape == (3, 10)
    assert (outputs.event_logits is None) == (modality == "visual")
    assert (outputs.object_logits is None) == (modality == "audio")
    outputs.scene_logits.sin().sum().backward()
    for name, parameter in model.named_parameters():
        unused = kind == "intermediate" and modality == "audio-visual" and "classifier" in name
        assert (parameter.grad is None) == unused, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    alone = model(*(each[1:2] for each in inputs)).scene_logits
    assert torch.allclose(alone[0], outputs.scene_logits[1], atol=1e-5)


@given(
    st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.booleans()
)
def test_the_fusion_layer_is_the_equation(
    seed: int, clips: int, inputs: int, hidden: int, literal_relu: bool
):
    """Eq. 6 number by number."""
    torch.manual_seed(seed)
    layer = FusionLayer(hidden, 0.3, 3, literal_relu, inputs).double().eval()
    first, second = layer.layers[0], layer.layers[3]
    given_inputs = torch.randn(clips, inputs, dtype=torch.float64)
    for row, found in zip(given_inputs.tolist(), layer(given_inputs).tolist(), strict=True):
        inner = [
            max(0.0, b + sum(w * x for w, x in zip(weights, row, strict=True)))
            for weights, b in zip(first.weight.tolist(), first.bias.tolist(), strict=True)
        ]
        for weights, b, logit in zip(
            second.weight.tolist(), second.bias.tolist(), found, strict=True
        ):
            expected = b + sum(w * x for w, x in zip(weights, inner, strict=True))
            assert logit == pytest.approx(
                max(0.0, expected) if literal_relu else expected, abs=1e-12
            )


def test_the_literal_relu():
    torch.manual_seed(0)
    plain, literal_layer = (
        FusionLayer(8, 0.0, 10, literal_relu, 6) for literal_relu in (False, True)
    )
    literal_layer.load_state_dict(plain.state_dict())
    inputs = torch.randn(20, 6)
    assert plain(inputs).min() < 0
    assert torch.equal(literal_layer(inputs), plain(inputs).relu())
