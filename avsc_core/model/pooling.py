"""Pooling over time: the encodings of a clip's pictures, or of its pieces of sound, become one.

    sequence (B,F,width) -> encoding (B,width), or (B,2 width) for `mean+max`

`mean`, `max` and `mean+max` have no weights and no sense of order; they are part of the encoder.
`attention`, `gru` and `transformer` are learned; they come after the encoder and train with the
embedding layer, also where the encoder is frozen. Not in the paper, which does not say how it pools
pictures; other systems use all of these.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

# Poolings without weights, whose result can be kept in the cache of a frozen encoder.
FIXED = ("mean", "max", "mean+max")

# The transformer's size: small, because it starts from random weights and sees few clips.
LAYERS = 2
MOST_HEADS = 8


class FixedPooling(nn.Module):
    """sequence (B,F,width) -> (B,n width): n statistics over the steps, side by side."""

    def __init__(self, statistics: tuple[Callable[[Tensor], Tensor], ...], width: int) -> None:
        super().__init__()
        self.statistics = statistics
        self.width = width * len(statistics)

    def forward(self, sequence: Tensor) -> Tensor:
        return torch.cat([statistic(sequence) for statistic in self.statistics], 1)


class AttentionPooling(nn.Module):
    """sequence (B,F,width) -> (B,width): a mean weighted by softmax_f(x_f . query).

    The query is learned. It starts at 0, so the first encodings are plain means.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width))
        self.width = width

    def forward(self, sequence: Tensor) -> Tensor:
        weight = (sequence @ self.query).softmax(1)  # (B,F)
        return (weight[:, None] @ sequence).squeeze(1)  # (B,width)


class GruPooling(nn.Module):
    """sequence (B,F,width) -> (B,width): the last states of a GRU in either direction.

    The last state of each direction has seen all steps. A mean over the states of all steps would
    give most weight to those that have seen half of them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        states = -(-width // 2)  # rounded up
        self.gru = nn.GRU(width, states, batch_first=True, bidirectional=True)
        self.width = 2 * states

    def forward(self, sequence: Tensor) -> Tensor:
        _, last = self.gru(sequence)  # (2,B,width/2)
        encoding: Tensor = last.transpose(0, 1).flatten(1)  # (B,width)
        return encoding


class TransformerPooling(nn.Module):
    """sequence (B,F,width) -> (B,width): the class token after a small transformer.

    It is a pre-norm encoder with learned positions, one for each of at most `steps` steps. The
    class token needs none: it is learned itself.
    """

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        heads = next(heads for heads in range(MOST_HEADS, 0, -1) if width % heads == 0)
        layer = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder_layers = nn.TransformerEncoder(
            layer, LAYERS, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, steps, width))
        self.width = width
        # As timm initialises the tokens and positions of its transformers.
        nn.init.trunc_normal_(self.token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that weight decay spares, as timm's transformers do."""
        return {"token", "positions"}

    def forward(self, sequence: Tensor) -> Tensor:
        clips, steps, _ = sequence.shape
        placed = sequence + self.positions[:, :steps]  # (B,F,width)
        tokens = torch.cat([self.token.expand(clips, -1, -1), placed], 1)  # (B,1+F,width)
        encoding: Tensor = self.encoder_layers(tokens)[:, 0]  # (B,width)
        return encoding


def build_pooling(name: str, width: int, steps: int) -> nn.Module:
    """Build the pooling `name` of sequences of at most `steps` encodings of this width.

    The width of its result is its attribute `width`.
    """
    return POOLINGS[name](width, steps)


def _build_fixed(*statistics: Callable[[Tensor], Tensor]) -> Callable[[int, int], nn.Module]:
    """Return a builder of the pooling that puts these statistics side by side."""
    return lambda width, steps: FixedPooling(statistics, width)


_mean = partial(torch.mean, dim=1)
_max = partial(torch.amax, dim=1)

# name -> builder from width and steps; the module maps (B,F,width) to (B,module.width)
POOLINGS: dict[str, Callable[[int, int], nn.Module]] = {
    "mean": _build_fixed(_mean),
    "max": _build_fixed(_max),
    "mean+max": _build_fixed(_mean, _max),
    "attention": lambda width, steps: AttentionPooling(width),
    "gru": lambda width, steps: GruPooling(width),
    "transformer": TransformerPooling,
}
