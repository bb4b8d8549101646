"""Visual encoder: ConvNeXt (Liu et al. 2022) on every frame, then pooling over frames.

    frames (B,F,3,H,W) -> ConvNeXt (B,F,width) -> pooled over frames (B,width)

Pooling (pooling.py) comes before the embedding layer, so that the object classifier, whose matrix
CEOA aligns, sees each clip once. Any image model of timm may stand in for ConvNeXt.
"""

from collections.abc import Sequence

import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from avsc_core.model.branch import build_timm_backbone, choose_input_size
from avsc_core.weights.preparation import Colours


class VisualEncoder(nn.Module):
    """frames (B,F,3,H,W) -> encodings of frames (B,F,width) -> what `pool` makes of them."""

    def __init__(
        self,
        backbone: nn.Module,
        pool: nn.Module,
        memory_format: torch.memory_format,
        recolour: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone.to(memory_format=memory_format)  # type: ignore[call-overload]
        self.pool = pool
        self.memory_format = memory_format
        self.recolour = recolour or nn.Identity()

    def forward(self, frames: Tensor) -> Tensor:
        pictures = frames.flatten(0, 1).contiguous(memory_format=self.memory_format)  # (BF,3,H,W)
        by_frame = self.backbone(self.recolour(pictures))  # (BF,width)
        pooled: Tensor = self.pool(by_frame.unflatten(0, frames.shape[:2]))
        return pooled


class Recolour(nn.Module):
    """Pictures (N,3,H,W) normalised for one backbone -> the same, normalised for another one."""

    def __init__(self, given: Colours, wanted: Colours) -> None:
        super().__init__()
        mean, std, new_mean, new_std = (
            torch.tensor(values).view(3, 1, 1) for values in (*given, *wanted)
        )
        # Constants of the two backbones, no part of a model's weights.
        self.register_buffer("factor", std / new_std, persistent=False)
        self.register_buffer("shift", (mean - new_mean) / new_std, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        recoloured: Tensor = pictures * self.factor + self.shift  # type: ignore[operator]
        return recoloured


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
