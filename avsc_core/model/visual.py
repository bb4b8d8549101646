"""Visual encoder: ConvNeXt (Liu et al. 2022) on every frame, then pooling over frames.

    frames (B,F,3,H,W) -> ConvNeXt (B,F,width) -> pooled over frames (B,width)

Pooling by mean and maximum (`mean+max`) makes the encoding twice as wide. Pooling comes before the
embedding layer, so that the object classifier, whose matrix CEOA aligns, sees each clip once. Any
image model of timm may stand in for ConvNeXt.
"""

from collections.abc import Callable, Sequence

import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from avsc_core.model.branch import build_timm_backbone, choose_input_size


class VisualEncoder(nn.Module):
    """frames (B,F,3,H,W) -> encoding (B,width)."""

    def __init__(
        self, backbone: nn.Module, pooling: str, memory_format: torch.memory_format
    ) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=memory_format)  # type: ignore[call-overload]
        self.pool = POOLINGS[pooling]
        self.memory_format = memory_format

    def forward(self, frames: Tensor) -> Tensor:
        pictures = frames.flatten(0, 1).contiguous(memory_format=self.memory_format)  # (BF,3,H,W)
        by_frame = self.backbone(pictures).unflatten(0, frames.shape[:2])  # (B,F,width)
        return self.pool(by_frame)  # (B,width)


def build_visual_backbone(
    name: str, size: int, where: str, *, depths: Sequence[int] = (), dims: Sequence[int] = ()
) -> nn.Module:
    """Build ConvNeXt with the given sizes, or a timm model: (N,3,H,W) -> (N,width).

    Raises UserError when timm has no model of this name; `where` is the setting that names it.
    """
    if name == "convnext":
        backbone: nn.Module = ConvNeXt(
            in_chans=3, num_classes=0, depths=tuple(depths), dims=tuple(dims)
        )
        return backbone
    return build_timm_backbone(name, where, **choose_input_size(name, size, size))


# name -> function, (B,F,width) -> (B,width) or (B,2 width)
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda by_frame: by_frame.mean(1),
    "max": lambda by_frame: by_frame.amax(1),
    "mean+max": lambda by_frame: torch.cat([by_frame.mean(1), by_frame.amax(1)], 1),
}
