"""Fusions: what the two branches say -> scene logits (B,S). SF (Eq. 5 and 6) and its rivals, behind one interface.

semantic      tokens of each branch plus what they attend to in the other's, through the fusion layer (the paper's SF)
none          the same tokens and layer without the attention (Table II, row 1); also what one modality alone gets
intermediate  the embeddings of both branches through the fusion layer: features are fused, not what they mean
decision      a fusion layer for each branch's tokens; their scene probabilities are averaged
hybrid        intermediate and decision together: three scores of every scene, averaged

Tokens are probabilities or logits. Every fusion is given the whole record of branch outputs; to add one, write a module
from `Branches` to scene logits, and a line in FUSIONS and in `fusion.kind` of avsc_core/config.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avsc_core.model.attention import cross_attention


class Branches(NamedTuple):
    """What the two branches say; None for a branch that the modality leaves out."""

    event_logits: Tensor | None  # (B,E)
    object_logits: Tensor | None  # (B,O)
    event_embedding: Tensor | None  # (B,D)
    object_embedding: Tensor | None  # (B,D)

    def pair(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four, of a model that has both branches."""
        events, objects, heard, seen = self
        assert events is not None
        assert objects is not None
        assert heard is not None
        assert seen is not None
        return events, objects, heard, seen


class FusionParts(NamedTuple):
    """What a fusion is built from."""

    events: int  # E, 0 without an audio branch
    objects: int  # O, 0 without a visual branch
    embedding: int  # D
    layer: Callable[[int], nn.Module]  # inputs C -> fusion layer (B,C) -> (B,S)
    scenes: int  # S
    heads: int
    head_width: int  # d
    tokens: str  # a key of TOKENS
    bias: bool
    attention_dropout: float
    decision: str  # mean, weighted or class-wise


class CrossAttention(nn.Module):
    """One direction of SF: what (B,Nq) queries hear from (B,Nk) keys.

    With `bias`, queries, values and the output have one; a key's would cancel in the softmax.
    """

    def __init__(self, heads: int, head_width: int, bias: bool, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, heads, head_width))  # w_q, w_k, w_v, w_o
        nn.init.normal_(
            self.weight, std=head_width**-0.5
        )  # not in the paper: each head starts with gain about 1
        self.bias = nn.Parameter(torch.zeros(2, heads, head_width)) if bias else None  # b_q, b_v
        self.output_bias = nn.Parameter(torch.zeros(())) if bias else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        w_q, w_k, w_v, w_o = self.weight
        b_q, b_v = (None, None) if self.bias is None else self.bias
        heard = cross_attention(query, key, w_q, w_k, w_v, w_o, b_q)
        if b_v is not None:
            heard = heard + (b_v * w_o).sum() + self.output_bias
        return self.dropout(heard)  # type: ignore[no-any-return]


class FusionLayer(nn.Module):
    """Eq. 6: (B,C) -> scene logits (B,S); `literal_relu` puts the equation's ReLU on the logits."""

    def __init__(
        self, hidden: int, dropout: float, scenes: int, literal_relu: bool, inputs: int
    ) -> None:
        super().__init__()
        last = [nn.ReLU()] if literal_relu else []
        layers = [
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, scenes),
            *last,
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        scene_logits: Tensor = self.layers(inputs)
        return scene_logits


class SemanticFusion(nn.Module):
    """SF: each branch's tokens with what they attend to in the other's, side by side (B,E+O), through the layer."""

    def __init__(self, parts: FusionParts) -> None:
        super().__init__()
        self.tokens = TOKENS[parts.tokens]
        attention = (parts.heads, parts.head_width, parts.bias, parts.attention_dropout)
        self.events_ask = CrossAttention(*attention)
        self.objects_ask = CrossAttention(*attention)
        self.layer = parts.layer(parts.events + parts.objects)

    def forward(self, branches: Branches) -> Tensor:
        event_logits, object_logits, _, _ = branches.pair()
        events, objects = self.tokens(event_logits), self.tokens(object_logits)
        events_heard = events + self.events_ask(events, objects)  # (B,E)
        objects_seen = objects + self.objects_ask(objects, events)  # (B,O)
        return self.layer(torch.cat([events_heard, objects_seen], 1))  # type: ignore[no-any-return]


class Concatenation(nn.Module):
    """The tokens of the branches there are, side by side, through the layer: no fusion beyond it."""

    def __init__(self, parts: FusionParts) -> None:
        super().__init__()
        self.tokens = TOKENS[parts.tokens]
        self.layer = parts.layer(parts.events + parts.objects)

    def forward(self, branches: Branches) -> Tensor:
        logits = (branches.event_logits, branches.object_logits)
        return self.layer(torch.cat([self.tokens(each) for each in logits if each is not None], 1))  # type: ignore[no-any-return]


class IntermediateFusion(nn.Module):
    """The embeddings of both branches, side by side (B,2D), through the layer."""

    def __init__(self, parts: FusionParts) -> None:
        super().__init__()
        self.layer = parts.layer(2 * parts.embedding)

    def forward(self, branches: Branches) -> Tensor:
        _, _, heard, seen = branches.pair()
        return self.layer(torch.cat([heard, seen], 1))  # type: ignore[no-any-return]


class DecisionFusion(nn.Module):
    """Each branch decides for itself; their scene probabilities are averaged."""

    def __init__(self, parts: FusionParts) -> None:
        super().__init__()
        self.tokens = TOKENS[parts.tokens]
        self.events_decide = parts.layer(parts.events)
        self.objects_decide = parts.layer(parts.objects)
        self.average = Average(2, parts.scenes, parts.decision)

    def forward(self, branches: Branches) -> Tensor:
        event_logits, object_logits, _, _ = branches.pair()
        by_events = self.events_decide(self.tokens(event_logits))  # (B,S)
        by_objects = self.objects_decide(self.tokens(object_logits))  # (B,S)
        return self.average([by_events, by_objects])  # type: ignore[no-any-return]


class HybridFusion(nn.Module):
    """Early and late at once: a decision from the fused embeddings beside those of each branch, averaged."""

    def __init__(self, parts: FusionParts) -> None:
        super().__init__()
        self.tokens = TOKENS[parts.tokens]
        self.events_decide = parts.layer(parts.events)
        self.objects_decide = parts.layer(parts.objects)
        self.both_decide = parts.layer(2 * parts.embedding)
        self.average = Average(3, parts.scenes, parts.decision)

    def forward(self, branches: Branches) -> Tensor:
        event_logits, object_logits, heard, seen = branches.pair()
        by_events = self.events_decide(self.tokens(event_logits))  # (B,S)
        by_objects = self.objects_decide(self.tokens(object_logits))  # (B,S)
        by_both = self.both_decide(torch.cat([heard, seen], 1))  # (B,S)
        return self.average([by_events, by_objects, by_both])  # type: ignore[no-any-return]


class Average(nn.Module):
    """Scores of n deciders, n x (B,S) logits -> (B,S) logits whose softmax is the average of their probabilities.

    `mean`: all count the same; `weighted`: a learned weight for each; `class-wise`: one for each and every scene, after
    which the scores are scaled to a sum of one again. Weights are positive and start equal.
    """

    def __init__(self, deciders: int, scenes: int, kind: str) -> None:
        super().__init__()
        shape = {"mean": None, "weighted": (deciders, 1), "class-wise": (deciders, scenes)}[kind]
        self.weight = nn.Parameter(torch.zeros(shape)) if shape else None

    def forward(self, scores: list[Tensor]) -> Tensor:
        votes = torch.stack([score.float().log_softmax(-1) for score in scores], 1)  # (B,n,S)
        if self.weight is not None:
            votes = votes + self.weight.log_softmax(0)
        return votes.logsumexp(1)  # softmax takes away what `mean` leaves over, a constant


TOKENS: dict[str, Callable[[Tensor], Tensor]] = {
    "probability": torch.sigmoid,
    "logit": lambda logits: logits,
}

# name -> module(Branches) -> scene logits (B,S)
FUSIONS: dict[str, Callable[[FusionParts], nn.Module]] = {
    "semantic": SemanticFusion,
    "none": Concatenation,
    "intermediate": IntermediateFusion,
    "decision": DecisionFusion,
    "hybrid": HybridFusion,
}
