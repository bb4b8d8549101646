"""Audio encoder: AST (Gong et al. 2021), a distilled vision transformer on the log-mel.

    log_mel (B,T,128) -> patches of 16 x 16 at stride 10 (B,N,width)
                      -> transformer -> (cls + dist) / 2 (B,width)

Any image model of timm may stand in; the log-mel is then a picture with one channel. A log-mel may
be cut into equal pieces of time, each of which is encoded on its own.
"""

from functools import partial
from typing import Any

from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from avsc_core.data.logmel import MEL_BINS
from avsc_core.model.branch import build_timm_backbone, choose_input_size


class Patches(nn.Module):
    """Overlapping patches: (B,1,128,T) -> (B,N,width). timm's patch embedding cannot overlap."""

    def __init__(
        self, img_size: Any, patch_size: int, in_chans: int, embed_dim: int, stride: int, **_: Any
    ) -> None:
        super().__init__()
        mel, time = ((size - patch_size) // stride + 1 for size in img_size)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (mel, time)
        self.num_patches = mel * time
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride)

    def forward(self, spectrogram: Tensor) -> Tensor:
        patches: Tensor = self.proj(spectrogram)  # (B,width,mel,time)
        return patches.flatten(2).mT  # (B,N,width)


class AudioEncoder(nn.Module):
    """log_mel (B,T,128) -> encoding (B,width), or of P pieces (B,P,width), which `pool` pools.

    A piece has T // P frames. The frames left over, less than P of them at the end, are not used.
    Padding is part of the last pieces: the value of silence, as at the end of a whole log-mel.
    """

    def __init__(self, backbone: nn.Module, pieces: int, pool: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.pieces = pieces
        self.pool = pool

    def forward(self, log_mel: Tensor) -> Tensor:
        if self.pieces == 1:
            encoding: Tensor = self.backbone(log_mel[:, None].mT)  # (B,width)
            return encoding

        length = log_mel.shape[1] // self.pieces
        pieces = log_mel[:, : length * self.pieces].reshape(-1, length, log_mel.shape[2])
        by_piece = self.backbone(pieces[:, None].mT)  # (BP,width)
        pooled: Tensor = self.pool(by_piece.unflatten(0, (-1, self.pieces)))
        return pooled


def build_ast(
    frames: int, width: int, depth: int, heads: int, patch: int, stride: int
) -> VisionTransformerDistilled:
    """Build AST without its classifier: (B,1,128,T) -> (cls + dist) / 2 (B,width)."""
    return VisionTransformerDistilled(
        img_size=(MEL_BINS, frames),
        patch_size=patch,
        in_chans=1,
        num_classes=0,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        embed_layer=partial(Patches, stride=stride),
    )


def build_audio_backbone(name: str, frames: int, where: str, **ast: int) -> nn.Module:
    """Build AST with the sizes `ast`, or a timm model: (B,1,128,T) -> (B,width).

    Raises UserError when timm has no model of this name; `where` is the setting that names it.
    """
    if name == "ast":
        backbone: nn.Module = build_ast(frames, **ast)
        return backbone
    return build_timm_backbone(name, where, in_chans=1, **choose_input_size(name, MEL_BINS, frames))
