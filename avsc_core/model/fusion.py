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
    """Eq. 5 with scalar tokens: (B,Nq).

    A token is one number, so a head's d-wide products collapse: its scores are c q_i k_j, c = w_q.w_k / sqrt(d); its
    output adds g = w_v.w_o times the attended key. The answer is the literal one; d never becomes an axis.
    """
    with torch.autocast(query.device.type, enabled=False):  # a softmax over |c| up to 200 needs its 24 bits
        wide = torch.promote_types(query.dtype, torch.float32)
        query, key, w_q, w_k, w_v, w_o = (tensor.to(wide) for tensor in (query, key, w_q, w_k, w_v, w_o))
        slope = (w_q * w_k).sum(1) / math.sqrt(w_q.shape[1])  # (heads,)
        gain = (w_v * w_o).sum(1)  # (heads,)
        scores = slope[:, None, None] * query[:, None, :, None] * key[:, None, None, :]  # (B,heads,Nq,Nk)
        attended = (scores.softmax(-1) @ key[:, None, :, None]).squeeze(-1)  # (B,heads,Nq)
        return torch.einsum("h,bhq->bq", gain, attended)


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
