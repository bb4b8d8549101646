"""Semantic-based fusion, SF (Eq. 5), and the fusion layer (Eq. 6): event and object probabilities -> scene logits.

SF attends over probabilities as tokens of a single number: events ask objects, objects ask events, and what they hear
is added to them. `none` is the same layer without the attention (Table II, row 1). Every fusion gets the whole record
of branch outputs, so one that fuses embeddings needs no other interface; a missing branch is None.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


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
    with torch.autocast(query.device.type, enabled=False):  # a softmax over |c| up to 200 needs its 24 bits
        wide = torch.promote_types(query.dtype, torch.float32)
        query, key, w_q, w_k, w_v, w_o = (tensor.to(wide) for tensor in (query, key, w_q, w_k, w_v, w_o))
        slope = (w_q * w_k).sum(1) / math.sqrt(w_q.shape[1])  # (heads,): c
        gain = (w_v * w_o).sum(1)  # (heads,): g
        centre = key.detach().mean(1, keepdim=True)  # (B,1): a softmax ignores it, and smaller sums round less
        grid = _grid(query, key, slope)
        if grid is None:
            mean = _moments(query, key - centre, slope)[..., 0]  # (B,heads,Nq)
            return torch.einsum("h,bhq->bq", gain, mean) + gain.sum() * centre
        points, carry = grid  # (B,M), (B,Nq,M), in float64: they are few, and the derivatives need the digits
        mean, square = _moments(points, (key - centre).double(), slope.double()).unbind(-1)  # (B,heads,M)
        value = torch.einsum("h,bhm->bm", gain.double(), mean)  # f at the points
        rate = torch.einsum("h,bhm->bm", (gain * slope).double(), square - mean**2).detach()  # and its derivative
        value, rate = (carry @ torch.stack([value, rate], -1)).to(wide).unbind(-1)  # (B,Nq)
        # The last term is 0 and has the derivative of f: the way of a query's gradient, for `carry` has none.
        return value + gain.sum() * centre + rate * (query - query.detach())


def _moments(query: Tensor, key: Tensor, slope: Tensor) -> Tensor:
    """(B,N) queries, (B,Nk) keys, (heads,) -> (B,heads,N,2): the attended mean of the keys and of their squares."""
    scores = slope[:, None, None] * query[:, None, :, None] * key[:, None, None, :]  # (B,heads,N,Nk)
    return scores.softmax(-1) @ torch.stack([key, key**2], -1)[:, None]


@torch.no_grad()
def _grid(query: Tensor, key: Tensor, slope: Tensor) -> tuple[Tensor, Tensor] | None:
    """Where to compute f, (B,M), and the matrix (B,Nq,M) that carries values there to the queries; None: everywhere.

    Chebyshev interpolation loses a factor of its ellipse with every point, so what M must be follows from how near
    the poles of f can come. They are zeros of sum_j exp(t k_j), t = c q complex, and for such a sum to vanish
    |Im t| must reach pi / spread of the keys and |Re t| pi / ln(Nk - 1). So f is steep around q = 0 only and grows
    smoother in proportion to |q|: in x = asinh(|c| spread q / pi) its poles keep `strip` away from the real axis.
    """
    bend = (slope.abs().max() * (key.amax(1, True) - key.amin(1, True)) / math.pi).double().clamp_min(1e-9)  # (B,1)
    place = torch.asinh(bend * query)  # (B,Nq): x
    low, high = place.amin(1, True), place.amax(1, True)
    middle, radius = (low + high) / 2, ((high - low) / 2).clamp_min(1e-30)
    cone = math.pi / math.log(max(key.shape[1] - 1, 2))
    strip = math.asin((math.sqrt(1 + 4 * cone**2) - 1) / (2 * cone))
    digits = -math.log(torch.finfo(query.dtype).eps)
    count = float((digits / torch.asinh(strip / radius)).max())  # the one time that a GPU is waited for
    if not count < query.shape[1] / 2:  # also when it is not a number
        return None
    m = 4 * math.ceil(count / 4 + 0.01)  # a few sizes only, or torch.compile would start again with every batch
    order = torch.arange(m, dtype=torch.float64, device=query.device)  # (M,)
    angle = math.pi * (order + 0.5) / m  # (M,)
    points = torch.sinh(middle + radius * angle.cos()) / bend  # (B,M)
    transform = torch.cos(order[:, None] * angle) * (2 / m)  # (M,M): values at the points -> Chebyshev coefficients
    transform[0] /= 2
    basis = torch.cos(torch.acos(((place - middle) / radius).clamp(-1, 1))[..., None] * order)  # (B,Nq,M)
    return points, basis @ transform


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
