"""Fusions: the outputs of the two branches -> scene logits (B,S).

Semantic fusion, SF (Eq. 5 and 6), and the fusions that it is compared with:

    semantic      The tokens of each branch, plus what they attend to among the tokens of the
                  other branch, go through the fusion layer.
    none          The same tokens go through the same layer without attention (Table II, row 1).
                  Also what a model of one modality uses.
    intermediate  The embeddings of both branches go through the fusion layer, instead of their
                  class probabilities.
    decision      Each branch has a fusion layer of its own; their scene probabilities are averaged.
    hybrid        Intermediate and decision together: three scores for every scene are averaged.

The tokens of a branch are its class probabilities or its logits. Every fusion gets the outputs of
both branches as `Branches`. To add a fusion, write a module that maps `Branches` to scene logits,
and add a line to FUSIONS and to `fusion.kind` in avsc_core/config.py.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

# Under its own name again, so that it may be imported from here too.
from avsc_core.model.attention import cross_attention as cross_attention


class Branches(NamedTuple):
    """The outputs of the two branches; None for a branch that the modality leaves out."""

    event_logits: Tensor | None  # (B,E)
    object_logits: Tensor | None  # (B,O)
    event_embedding: Tensor | None  # (B,D)
    object_embedding: Tensor | None  # (B,D)

    def logits(self) -> tuple[Tensor, Tensor]:
        """Return the logits of events (B,E) and objects (B,O) of a model with both branches."""
        assert self.event_logits is not None
        assert self.object_logits is not None
        return self.event_logits, self.object_logits

    def embeddings(self) -> Tensor:
        """Return both embeddings side by side (B,2D), of a model with both branches."""
        assert self.event_embedding is not None
        assert self.object_embedding is not None
        return torch.cat([self.event_embedding, self.object_embedding], 1)


class FusionParts(NamedTuple):
    """The sizes and settings that a fusion is built from."""

    events: int  # E, 0 without an audio branch
    objects: int  # O, 0 without a visual branch
    embedding: int  # D
    layer: Callable[[int], nn.Module]  # number of inputs C -> fusion layer, (B,C) -> (B,S)
    scenes: int  # S
    heads: int  # H
    head_width: int  # d
    tokens: str  # a key of TOKENS
    bias: bool
    attention_dropout: float
    decision: str  # mean, weighted or class-wise


class CrossAttention(nn.Module):
    """One direction of SF (Eq. 5): queries (B,Nq), keys (B,Nk) -> (B,Nq).

    With `bias`, the projections of queries and values and the output have a bias, which Eq. 5 does
    not have. A bias of the keys would cancel in the softmax, so there is none.
    """

    def __init__(self, heads: int, head_width: int, bias: bool, dropout: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, heads, head_width))  # w_q, w_k, w_v, w_o
        # Not in the paper: with this deviation the gain of a head, w_v . w_o, starts around 1.
        nn.init.normal_(self.weight, std=head_width**-0.5)
        self.bias = nn.Parameter(torch.zeros(2, heads, head_width)) if bias else None  # b_q, b_v
        self.output_bias = nn.Parameter(torch.zeros(())) if bias else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        w_q, w_k, w_v, w_o = self.weight
        b_q, b_v = (None, None) if self.bias is None else self.bias
        output = cross_attention(query, key, w_q, w_k, w_v, w_o, b_q)  # (B,Nq)
        if b_v is not None:
            # The weights of the softmax have a sum of 1, so a bias of the values adds a constant.
            output = output + (b_v * w_o).sum() + self.output_bias
        dropped: Tensor = self.dropout(output)
        return dropped


class FusionLayer(nn.Module):
    """The fusion layer (Eq. 6): (B,C) -> scene logits (B,S).

    Eq. 6 has a ReLU on the logits too, which `literal_relu` adds.
    """

    def __init__(
        self, hidden: int, dropout: float, scenes: int, literal_relu: bool, inputs: int
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, scenes),
        )
        if literal_relu:
            self.layers.append(nn.ReLU())

    def forward(self, inputs: Tensor) -> Tensor:
        scene_logits: Tensor = self.layers(inputs)
        return scene_logits


class SemanticFusion(nn.Module):
    """SF: each branch attends to the other one, then both go through the fusion layer."""

    def __init__(self, parts: FusionParts) -> None:
        super().__init__()
        self.tokens = TOKENS[parts.tokens]
        attention = (parts.heads, parts.head_width, parts.bias, parts.attention_dropout)
        self.events_ask = CrossAttention(*attention)
        self.objects_ask = CrossAttention(*attention)
        self.layer = parts.layer(parts.events + parts.objects)

    def forward(self, branches: Branches) -> Tensor:
        (events, objects), (added_events, added_objects) = self.attend(*branches.logits())
        fused_events = events + added_events  # (B,E)
        fused_objects = objects + added_objects  # (B,O)

        # Eq. 6.
        scene_logits: Tensor = self.layer(torch.cat([fused_events, fused_objects], 1))  # (B,S)
        return scene_logits

    def attend(
        self,
        event_logits: Tensor,  # (B,E)
        object_logits: Tensor,  # (B,O)
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return the tokens (B,E), (B,O), and what Eq. 5 adds to them in both directions."""
        events = self.tokens(event_logits)  # (B,E)
        objects = self.tokens(object_logits)  # (B,O)
        added_events = self.events_ask(events, objects)  # (B,E)
        added_objects = self.objects_ask(objects, events)  # (B,O)
        return (events, objects), (added_events, added_objects)


class Concatenation(nn.Module):
    """No fusion but the layer: the tokens of one or both branches, side by side, go through it."""

    def __init__(self, parts: FusionParts) -> None:
        super().__init__()
        self.tokens = TOKENS[parts.tokens]
        self.layer = parts.layer(parts.events + parts.objects)

    def forward(self, branches: Branches) -> Tensor:
        both = (branches.event_logits, branches.object_logits)
        tokens = [self.tokens(logits) for logits in both if logits is not None]
        scene_logits: Tensor = self.layer(torch.cat(tokens, 1))  # (B,S)
        return scene_logits


class IntermediateFusion(nn.Module):
    """The embeddings of both branches, side by side (B,2D), go through the fusion layer."""

    def __init__(self, parts: FusionParts) -> None:
        super().__init__()
        self.layer = parts.layer(2 * parts.embedding)

    def forward(self, branches: Branches) -> Tensor:
        scene_logits: Tensor = self.layer(branches.embeddings())  # (B,S)
        return scene_logits


class DecisionFusion(nn.Module):
    """Each branch decides on its own; the scene probabilities of both are averaged.

    A `hybrid` fusion also averages the decision of a third layer, from both embeddings.
    """

    def __init__(self, parts: FusionParts, hybrid: bool = False) -> None:
        super().__init__()
        self.tokens = TOKENS[parts.tokens]
        self.events_decide = parts.layer(parts.events)
        self.objects_decide = parts.layer(parts.objects)
        self.both_decide = parts.layer(2 * parts.embedding) if hybrid else None
        self.average = Average(3 if hybrid else 2, parts.scenes, parts.decision)

    def forward(self, branches: Branches) -> Tensor:
        event_logits, object_logits = branches.logits()
        scores = [
            self.events_decide(self.tokens(event_logits)),  # (B,S)
            self.objects_decide(self.tokens(object_logits)),  # (B,S)
        ]
        if self.both_decide is not None:
            scores.append(self.both_decide(branches.embeddings()))  # (B,S)
        scene_logits: Tensor = self.average(scores)  # (B,S)
        return scene_logits


class Average(nn.Module):
    """n x scene logits (B,S) -> logits (B,S) whose softmax is the average of the n probabilities.

    With `mean` all n scores have the same weight. With `weighted` each score has one learned
    weight, and with `class-wise` one for each scene; the averaged probabilities of a clip are then
    scaled to a sum of one. Weights are positive and start equal.
    """

    def __init__(self, scores: int, scenes: int, kind: str) -> None:
        super().__init__()
        columns = {"mean": 0, "weighted": 1, "class-wise": scenes}[kind]
        self.weight = nn.Parameter(torch.zeros(scores, columns)) if columns else None

    def forward(self, scores: list[Tensor]) -> Tensor:
        log_probs = [score.float().log_softmax(-1) for score in scores]
        weighted = torch.stack(log_probs, 1)  # (B,n,S)
        if self.weight is not None:
            weighted = weighted + self.weight.log_softmax(0)
        # `mean` lacks a division by n: a constant, which a softmax over scenes does not see.
        return weighted.logsumexp(1)  # (B,S)


TOKENS: dict[str, Callable[[Tensor], Tensor]] = {
    "probability": torch.sigmoid,
    "logit": lambda logits: logits,
}

# name -> module, Branches -> scene logits (B,S)
FUSIONS: dict[str, Callable[[FusionParts], nn.Module]] = {
    "semantic": SemanticFusion,
    "none": Concatenation,
    "intermediate": IntermediateFusion,
    "decision": DecisionFusion,
    "hybrid": partial(DecisionFusion, hybrid=True),
}
