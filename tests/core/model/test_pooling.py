"""Poolings over time: one contract for all of them, and each against a float64 transcription."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from avsc_core.config import Pooling
from avsc_core.model.pooling import FIXED, POOLINGS, build_pooling
from avsc_core.trainer.optim import list_undecayed


def build(name: str, width: int, steps: int) -> nn.Module:
    """A pooling in float64 whose weights are far from their start."""
    torch.manual_seed(0)
    pool = build_pooling(name, width, steps).double().eval()
    for parameter in pool.parameters():
        nn.init.normal_(parameter, std=0.5)
    return pool


def test_config_and_poolings_name_the_same():
    assert tuple(POOLINGS) == get_args(Pooling)
    assert set(FIXED) < set(POOLINGS)


@pytest.mark.parametrize("name", POOLINGS)
@pytest.mark.parametrize("width", [6, 7])
def test_every_pooling(name: str, width: int):
    """The result has the width announced, depends on each clip alone, and learns from all steps."""
    pool = build(name, width, steps=5)
    sequence = torch.randn(3, 5, width, dtype=torch.float64, requires_grad=True)
    pooled = pool(sequence)
    assert pooled.shape == (3, pool.width)
    assert torch.allclose(pool(sequence[1:2]), pooled[1:2])
    assert pool(sequence[:, :1]).shape == (3, pool.width)  # protocol segment has one picture

    pooled[0].sin().sum().backward()
    assert not sequence.grad[1:].any()
    changed = sequence.grad[0].abs().sum(1) > 0  # (5,)
    assert changed.all() or name == "max"
    for parameter in pool.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert bool(list(pool.parameters())) == (name not in FIXED)


@pytest.mark.parametrize("name", POOLINGS)
def test_which_poolings_see_the_order(name: str):
    pool = build(name, 6, steps=4)
    sequence = torch.randn(2, 4, 6, dtype=torch.float64)
    same = torch.allclose(pool(sequence), pool(sequence[:, [2, 0, 3, 1]]), atol=1e-9)
    assert same == (name not in ("gru", "transformer"))


def transcribe_mean(pool: nn.Module, clip: Tensor) -> Tensor:
    return sum(clip) / len(clip)


def transcribe_max(pool: nn.Module, clip: Tensor) -> Tensor:
    return torch.stack([max(column) for column in clip.T])


def transcribe_both(pool: nn.Module, clip: Tensor) -> Tensor:
    return torch.cat([transcribe_mean(pool, clip), transcribe_max(pool, clip)])


def transcribe_attention(pool: nn.Module, clip: Tensor) -> Tensor:
    weights = [math.exp(step @ pool.query) for step in clip]
    return sum(w * step for w, step in zip(weights, clip, strict=True)) / sum(weights)


def transcribe_gru(pool: nn.Module, clip: Tensor) -> Tensor:
    """The equations of Cho et al. 2014 as torch documents them, step by step in each direction."""
    last = []
    for suffix, steps in (("", clip), ("_reverse", clip.flip(0))):
        w_i, w_h, b_i, b_h = (
            getattr(pool.gru, f"{name}_l0{suffix}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        state = torch.zeros(w_h.shape[1], dtype=clip.dtype)
        for step in steps:
            r_i, z_i, n_i = (w_i @ step + b_i).chunk(3)
            r_h, z_h, n_h = (w_h @ state + b_h).chunk(3)
            reset = torch.sigmoid(r_i + r_h)
            update = torch.sigmoid(z_i + z_h)
            new = torch.tanh(n_i + reset * n_h)
            state = (1 - update) * new + update * state
        last.append(state)
    return torch.cat(last)


def transcribe_transformer(pool: nn.Module, clip: Tensor) -> Tensor:
    """Class token, positions, and pre-norm layers of Xiong et al. 2020, head by head."""

    def norm(layer: nn.LayerNorm, x: Tensor) -> Tensor:
        centred = x - x.mean(1, True)
        scaled = centred / (centred.pow(2).mean(1, True) + layer.eps).sqrt()
        return scaled * layer.weight + layer.bias

    x = torch.cat([pool.token[0], clip + pool.positions[0, : len(clip)]])
    for layer in pool.encoder_layers.layers:
        attention = layer.self_attn
        projected = norm(layer.norm1, x) @ attention.in_proj_weight.T + attention.in_proj_bias
        heads = []
        for q, k, v in zip(
            *(part.chunk(attention.num_heads, 1) for part in projected.chunk(3, 1)), strict=True
        ):
            heads.append((q @ k.T / math.sqrt(q.shape[1])).softmax(1) @ v)
        x = x + attention.out_proj(torch.cat(heads, 1))
        x = x + layer.linear2(layer.linear1(norm(layer.norm2, x)).clamp_min(0))
    return norm(pool.encoder_layers.norm, x)[0]


@pytest.mark.parametrize(
    ("name", "transcribe"),
    [
        ("mean", transcribe_mean),
        ("max", transcribe_max),
        ("mean+max", transcribe_both),
        ("attention", transcribe_attention),
        ("gru", transcribe_gru),
        ("transformer", transcribe_transformer),
    ],
)
@torch.no_grad()
def test_each_pooling_is_its_transcription(name: str, transcribe):
    pool = build(name, 12, steps=5)
    sequence = torch.randn(3, 5, 12, dtype=torch.float64)
    expected = torch.stack([transcribe(pool, clip) for clip in sequence])
    assert torch.allclose(pool(sequence), expected, rtol=1e-10, atol=1e-10)


def test_attention_starts_as_a_mean():
    sequence = torch.randn(2, 5, 8)
    assert torch.allclose(build_pooling("attention", 8, 5)(sequence), sequence.mean(1), atol=1e-6)


def test_weight_decay_spares_token_and_positions():
    holder = nn.ModuleDict({"pool": build_pooling("transformer", 8, 5)})
    assert list_undecayed(holder) == {"pool.token", "pool.positions"}
