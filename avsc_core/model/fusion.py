"""Semantic-based fusion, SF (Eq. 5), and the fusion layer (Eq. 6): event and object probabilities -> scene logits.

SF attends over probabilities as tokens of a single number: events ask objects, objects ask events, and what they hear
is added to them. `none` is the same layer without the attention (Table II, row 1). Every fusion gets the whole record
of branch outputs, so one that fuses embeddings needs no other interface; a missing branch is None.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class Branches(NamedTuple):
    """What the two branches say; None for a branch that the modality leaves out."""

    event_logits: Tensor | None  # (B,E)
    object_logits: Tensor | None  # (B,O)
    event_embedding: Tensor | None  # (B,D)
    object_embedding: Tensor | None  # (B,D)


def cross_attention(
    query: Tensor,  # (B,Nq)
    key: Tensor,  # (B,Nk), the values too
    w_q: Tensor,  # (heads,d), as the three below
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
) -> Tensor:
    """Eq. 5 with scalar tokens: (B,Nq), in float32 at least, whatever the autocast. First derivatives only.

    A token is one number, so a head's d-wide products collapse into two numbers, c = w_q.w_k / sqrt(d) and
    g = w_v.w_o, and the output is one smooth function for each clip, f(q) = sum_h g_h sum_j softmax_j(c_h q k_j) k_j.
    It is computed at a few queries and interpolated to the rest, unless f is too steep for that to save anything.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    # A thousand terms in a sum and |c| up to 200 in an exponent cost float32 its digits; float64 is cheap at a few
    # queries, and no autocast touches it.
    query, key, w_q, w_k, w_v, w_o = (tensor.double() for tensor in (query, key, w_q, w_k, w_v, w_o))
    slope = (w_q * w_k).sum(1) / math.sqrt(w_q.shape[1])  # (heads,): c
    gain = (w_v * w_o).sum(1)  # (heads,): g
    points, carry = _grid(query, key, slope, torch.finfo(wide).eps) or (query, None)  # (B,M), (B,Nq,M)
    tilt = slope[:, None] * points[:, None]  # (B,heads,M)
    mean, variance = (each.view_as(tilt) for each in _attend(tilt.flatten(1), key))
    value = torch.einsum("h,bhm->bm", gain, mean)  # f at the points
    if carry is not None:
        rate = torch.einsum("h,bhm->bm", (gain * slope).detach(), variance)  # and its derivative
        value, rate = (carry @ torch.stack([value, rate], -1)).unbind(-1)  # (B,Nq)
        # Adds 0 with the derivative of f: how the gradient reaches a query, for the grid passes none.
        value = value + rate.detach() * (query - query.detach())
    return value.to(wide)


class Attend(torch.autograd.Function):
    """tilt (B,N), key (B,Nk) -> mean (B,N) and variance (B,N) of the keys under softmax_j(tilt_i key_j).

    The mean alone has a gradient. By hand, for it takes one array of (B,N,Nk) where autograd would take five.
    """

    @staticmethod
    def forward(ctx: Any, tilt: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        top = torch.maximum(tilt * key.amax(1, True), tilt * key.amin(1, True))  # (B,N): the largest exponent
        mass = (tilt[:, :, None] * key[:, None]).sub_(top[:, :, None]).exp_()  # (B,N,Nk)
        total, first, second = (torch.stack([torch.ones_like(key), key, key**2], 1) @ mass.mT).unbind(1)  # (B,N)
        mean = first / total
        variance = second / total - mean**2
        ctx.save_for_backward(tilt, key, mass, total, mean, variance)
        ctx.mark_non_differentiable(variance)
        return mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        tilt, key, mass, total, mean, variance = ctx.saved_tensors
        # d mean_i / d key_j = mass_ij / total_i (1 + tilt_i (key_j - mean_i)): two sums over i, one of them times key_j
        share = grad / total  # (B,N)
        plain, by_key = (torch.stack([share * (1 - tilt * mean), share * tilt], 1) @ mass).unbind(1)  # (B,Nk)
        return grad * variance, plain + by_key * key


_attend: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = Attend.apply


@torch.no_grad()
def _grid(query: Tensor, key: Tensor, slope: Tensor, error: float) -> tuple[Tensor, Tensor] | None:
    """Where to compute f, (B,M), and the matrix (B,Nq,M) that carries values there to the queries; None: not worth it.

    Chebyshev interpolation gains a constant factor with every point, the larger the farther the poles of f are. They
    are zeros of sum_j exp(t k_j), t = c q complex, and for such a sum to vanish |Im t| must reach both pi / spread of
    the keys and |Re t| pi / ln(Nk - 1). So f is steep around q = 0 only and the smoother the larger |q|: in
    x = asinh(|c| spread q / pi) its poles stay `strip` away from the real axis, which says how many points it takes.
    """
    bend = (slope.abs().max() * (key.amax(1, True) - key.amin(1, True)) / math.pi).clamp_min(1e-9)  # (B,1)
    place = torch.asinh(bend * query)  # (B,Nq): x
    low, high = place.amin(1, True), place.amax(1, True)
    middle, radius = (low + high) / 2, ((high - low) / 2).clamp_min(1e-30)
    cone = math.pi / math.log(max(key.shape[1] - 1, 2))
    strip = math.asin((math.sqrt(1 + 4 * cone**2) - 1) / (2 * cone))
    count = float((-math.log(error) / torch.asinh(strip / radius)).max())  # the one time that a GPU is waited for
    if not count + 4 < query.shape[1] / 2:  # also when it is not a number
        return None
    m = 4 * (int(count) // 4 + 1)  # a few sizes only, or torch.compile would start again with every batch
    angle = math.pi * (torch.arange(m, dtype=query.dtype, device=query.device) + 0.5) / m  # (M,)
    points = torch.sinh(middle + radius * angle.cos()) / bend  # (B,M)
    gap = ((place - middle) / radius)[:, :, None] - angle.cos()  # (B,Nq,M)
    weight = angle.sin() * (-1) ** torch.arange(m, device=query.device)  # (M,)
    carry = weight / gap.masked_fill_(gap == 0, 1e-300)  # the barycentric formula; a query on a point takes its value
    return points, carry / carry.sum(-1, keepdim=True)


class CrossAttention(nn.Module):
    """Weights of `cross_attention` for one direction."""

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, heads, head_width))  # w_q, w_k, w_v, w_o
        nn.init.normal_(self.weight, std=head_width**-0.5)  # not in the paper: each head starts with gain about 1

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return cross_attention(query, key, *self.weight)


class FusionLayer(nn.Module):
    """Eq. 6: (B,C) -> scene logits (B,S); `literal_relu` puts the equation's ReLU on the logits."""

    def __init__(self, inputs: int, hidden: int, dropout: float, scenes: int, literal_relu: bool) -> None:
        super().__init__()
        last = [nn.ReLU()] if literal_relu else []
        layers = [nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, scenes), *last]
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        scene_logits: Tensor = self.layers(inputs)
        return scene_logits


class SemanticFusion(nn.Module):
    """SF: each modality's tokens with what they attend to in the other's, concatenated (B,E+O)."""

    def __init__(self, heads: int, head_width: int, tokens: str) -> None:
        super().__init__()
        self.tokens = TOKENS[tokens]
        self.events_ask = CrossAttention(heads, head_width)
        self.objects_ask = CrossAttention(heads, head_width)

    def forward(self, branches: Branches) -> Tensor:
        assert branches.event_logits is not None
        assert branches.object_logits is not None
        events, objects = self.tokens(branches.event_logits), self.tokens(branches.object_logits)
        events_heard = events + self.events_ask(events, objects)  # (B,E)
        objects_seen = objects + self.objects_ask(objects, events)  # (B,O)
        return torch.cat([events_heard, objects_seen], 1)


class Concatenation(nn.Module):
    """The tokens of the branches there are, side by side: no fusion beyond the layer that follows."""

    def __init__(self, tokens: str) -> None:
        super().__init__()
        self.tokens = TOKENS[tokens]

    def forward(self, branches: Branches) -> Tensor:
        logits = (branches.event_logits, branches.object_logits)
        return torch.cat([self.tokens(each) for each in logits if each is not None], 1)


TOKENS: dict[str, Callable[[Tensor], Tensor]] = {"probability": torch.sigmoid, "logit": lambda logits: logits}

# name -> module(Branches) -> (B,E+O), built from (heads, head_width, tokens)
FUSIONS: dict[str, Callable[[int, int, str], nn.Module]] = {
    "none": lambda heads, head_width, tokens: Concatenation(tokens),
    "semantic": SemanticFusion,
}
