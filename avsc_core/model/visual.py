"""Visual encoder: ConvNeXt (Liu et al. 2022) on every frame, pooled over frames.

frames (B,F,3,H,W) -> ConvNeXt (B,F,width) -> pooled over F (B,width), twice as wide for mean+max. Pooling comes before
the embedding layer, which keeps the matrix that CEOA aligns one for the clip. Any image backbone of timm may stand in.
"""

from collections.abc import Callable, Sequence

import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from avsc_core.model.branch import build_timm_backbone, choose_input_size, read_feature_width


class VisualEncoder(nn.Module):
    """frames (B,F,3,H,W) -> features (B,width)."""

    def __init__(
        self, backbone: nn.Module, pooling: str, memory_format: torch.memory_format
    ) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=memory_format)  # type: ignore[call-overload]
        self.pool = POOLINGS[pooling]
        self.memory_format = memory_format

    def forward(self, frames: Tensor) -> Tensor:
        pictures = frames.flatten(0, 1).contiguous(memory_format=self.memory_format)  # (BF,3,H,W)
        return self.pool(
            self.backbone(pictures).unflatten(0, frames.shape[:2])
        )  # (B,F,width) -> (B,width)


def build_visual_backbone(
    name: str, size: int, where: str, *, depths: Sequence[int] = (), dims: Sequence[int] = ()
) -> nn.Module:
    """ConvNeXt of the given sizes, or a timm model; (N,3,H,W) -> (N,width). Raises UserError when timm has none."""
    if name == "convnext":
        convnext: nn.Module = ConvNeXt(
            in_chans=3, num_classes=0, depths=tuple(depths), dims=tuple(dims)
        )
        return convnext
    return build_timm_backbone(name, where, **choose_input_size(name, size, size))


def find_visual_width(
    name: str,
    size: int,
    where: str,
    *,
    pooling: str,
    depths: Sequence[int] = (),
    dims: Sequence[int] = (),
) -> int:
    """Width of the features of a visual encoder, whose backbone is not built for it."""
    if name == "convnext":
        width = dims[-1]
    else:
        with torch.device("meta"):
            width = read_feature_width(build_visual_backbone(name, size, where))
    return width * (2 if pooling == "mean+max" else 1)


POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda features: features.mean(1),
    "max": lambda features: features.amax(1),
    "mean+max": lambda features: torch.cat([features.mean(1), features.amax(1)], 1),
}
