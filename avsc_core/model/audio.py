"""Audio branch: AST (Gong et al. 2021), a distilled vision transformer over overlapping patches of the log-mel.

log_mel (B,T,128) -> patches of 16 x 16 at stride 10 -> transformer -> (cls + dist) / 2 (B,width) -> Linear + ReLU (B,D)
-> Linear (B,E). The rows of that last matrix (E,D) are what CEOA aligns.
"""

from functools import partial
from typing import Any

from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from avsc_core.data.logmel import MEL_BINS


class Patches(nn.Module):
    """Overlapping patches: (B,1,128,T) -> (B,N,width); timm's own patch embedding cannot overlap."""

    def __init__(self, img_size: Any, patch_size: int, in_chans: int, embed_dim: int, stride: int, **_: Any) -> None:
        super().__init__()
        self.patch_size = (patch_size, patch_size)
        self.grid_size = tuple((size - patch_size) // stride + 1 for size in img_size)  # (mel, time)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride)

    def forward(self, spectrogram: Tensor) -> Tensor:
        patches: Tensor = self.proj(spectrogram)  # (B,width,mel,time)
        return patches.flatten(2).mT  # (B,N,width)


class AudioBranch(nn.Module):
    """log_mel (B,T,128) -> embedding (B,D), event logits (B,E)."""

    def __init__(
        self, frames: int, width: int, depth: int, heads: int, patch: int, stride: int, embedding: int, classes: int
    ) -> None:
        super().__init__()
        self.backbone = VisionTransformerDistilled(
            img_size=(MEL_BINS, frames),
            patch_size=patch,
            in_chans=1,
            num_classes=0,
            embed_dim=width,
            depth=depth,
            num_heads=heads,
            embed_layer=partial(Patches, stride=stride),
        )
        self.embed = nn.Sequential(nn.Linear(width, embedding), nn.ReLU())
        self.classifier = nn.Linear(embedding, classes)

    def forward(self, log_mel: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.backbone.forward_features(log_mel[:, None].mT)  # (B,1,128,T) -> (B,2+N,width)
        embedding = self.embed((tokens[:, 0] + tokens[:, 1]) / 2)  # (B,D)
        return embedding, self.classifier(embedding)  # (B,D), (B,E)
