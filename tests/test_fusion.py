"""SF against a float64 transcription of Eq. 5, token by token; every fusion through one contract."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from avsc_core.config import Fusion, parse_set, resolve
from avsc_core.model import build_model
from avsc_core.model.fusion import FUSIONS, FusionLayer, cross_attention
from tests.conftest import TINY


def literal(query: Tensor, key: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor) -> Tensor:
    """Eq. 5 as it is written: d-wide queries, keys and values of every token, heads concatenated, then w_o."""
    heads, d = w_q.shape
    out = torch.zeros_like(query)
    for clip in range(len(query)):
        for i, q in enumerate(query[clip]):
            concatenated = []
            for h in range(heads):
                scores = torch.stack([(q * w_q[h]) @ (k * w_k[h]) / math.sqrt(d) for k in key[clip]])
                attention = torch.softmax(scores, 0)
                concatenated.append(sum(a * k * w_v[h] for a, k in zip(attention, key[clip], strict=True)))
            out[clip, i] = torch.cat(concatenated) @ w_o.flatten()
    return out


def problem(seed: int, clips: int, queries: int, keys: int, heads: int, d: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = [torch.rand(clips, n, generator=generator, dtype=torch.float64) for n in (queries, keys)]
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


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_float32_is_close_to_float64(scale: float):
    tensors = problem(0, 2, 40, 60, 4, 16, scale)
    exact = cross_attention(*tensors)
    ours = cross_attention(*(tensor.float() for tensor in tensors))
    norms = (tensors[4] * tensors[5]).sum(1).abs().sum()
    assert (ours - exact).abs().max() / norms < 5e-6


def test_gradients_are_exact():
    tensors = [tensor.requires_grad_() for tensor in problem(1, 2, 5, 6, 2, 3)]
    assert torch.autograd.gradcheck(cross_attention, tensors)


def test_autocast_does_not_reach_the_softmax():
    tensors = [tensor.float() for tensor in problem(2, 2, 9, 8, 2, 4, 30.0)]
    exact = cross_attention(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cross_attention(*tensors), exact)


@pytest.mark.gpu
def test_cross_attention_on_a_gpu():
    tensors = [tensor.float() for tensor in problem(3, 4, 527, 1000, 8, 64)]
    there = cross_attention(*(tensor.cuda() for tensor in tensors)).cpu()
    assert torch.allclose(there, cross_attention(*tensors), atol=1e-4)


def test_config_and_fusions_name_the_same():
    assert set(Fusion.model_fields["kind"].annotation.__args__) == set(FUSIONS)


@pytest.mark.parametrize("kind", FUSIONS)
@pytest.mark.parametrize("modality", ["audio-visual", "audio", "visual"])
def test_every_fusion(kind: str, modality: str):
    """Right shapes, finite values, a gradient for every parameter, no mixing of clips."""
    torch.manual_seed(0)
    config = resolve("demo", parse_set([*TINY, f"fusion.kind={kind}", f"modality={modality}", "fusion.dropout=0"]))
    model = build_model(config)
    inputs = torch.randn(3, 64, 128), torch.randn(3, 2, 3, 32, 32)
    outputs = model(*inputs)
    assert outputs.scene_logits.shape == (3, 10)
    assert (outputs.event_logits is None) == (modality == "visual")
    assert (outputs.object_logits is None) == (modality == "audio")
    outputs.scene_logits.sin().sum().backward()
    for name, parameter in model.named_parameters():
        own_classifier = "classifier" in name
        assert parameter.grad is not None or own_classifier, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    alone = model(*(each[1:2] for each in inputs)).scene_logits
    assert torch.allclose(alone[0], outputs.scene_logits[1], atol=1e-5)


def test_the_literal_relu():
    torch.manual_seed(0)
    plain, literal_layer = (FusionLayer(6, 8, 0.0, 10, literal_relu) for literal_relu in (False, True))
    literal_layer.load_state_dict(plain.state_dict())
    inputs = torch.randn(20, 6)
    assert plain(inputs).min() < 0
    assert torch.equal(literal_layer(inputs), plain(inputs).relu())
