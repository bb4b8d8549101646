"""Visual branch: ConvNeXt (Liu et al. 2022) on every frame, pooled over frames.

frames (B,F,3,H,W) -> ConvNeXt (B,F,width) -> pooled over F (B,width) -> Linear + ReLU (B,D) -> Linear (B,O). The rows
of that last matrix (O,D) are what CEOA aligns. Pooling before the embedding layer keeps that matrix one for the clip.
"""

from collections.abc import Callable, Sequence

import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn


class VisualBranch(nn.Module):
    """frames (B,F,3,H,W) -> embedding (B,D), object logits (B,O)."""

    def __init__(self, depths: Sequence[int], dims: Sequence[int], pooling: str, embedding: int, classes: int) -> None:
        super().__init__()
        self.backbone = ConvNeXt(in_chans=3, num_classes=0, depths=tuple(depths), dims=tuple(dims))
        self.pool = POOLINGS[pooling]
        width = dims[-1] * (2 if pooling == "mean+max" else 1)
        self.embed = nn.Sequential(nn.Linear(width, embedding), nn.ReLU())
        self.classifier = nn.Linear(embedding, classes)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])  # (B,F,width)
        embedding = self.embed(self.pool(features))  # (B,D)
        return embedding, self.classifier(embedding)  # (B,D), (B,O)


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda features: features.mean(1),
    "max": lambda features: features.amax(1),
    "mean+max": lambda features: torch.cat([features.mean(1), features.amax(1)], 1),
}
