"""How the pictures of a clip are prepared for the visual backbone of a configuration.

ConvNeXt, the paper's backbone, gets pictures as `pictures.resize`, `.interpolation`, `.squash` and
`.size` say, which are torchvision's for it. A stand-in gets them as timm lists for it, unless
`pictures.preparation` is `settings`. Of several backbones the first decides; the colours alone are
those of each.

This module imports timm, and with it torch, only for stand-ins.
"""

from typing import Any, NamedTuple, get_args

from avsc_core.config import Config, Pictures
from avsc_core.errors import make_error
from avsc_core.resolve import follows_backbone


class Colours(NamedTuple):
    """Mean and deviation of red, green and blue that a visual backbone was trained with."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


# The constants of torchvision's weights, with which ConvNeXt was trained.
IMAGENET = Colours(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def choose_pictures(config: Config) -> Pictures:
    """Return the pictures that the visual encoder of a configuration gets.

    Features, their cache, encoders and costs all ask this function. Raises UserError when this
    package cannot prepare pictures as timm lists for the backbone.
    """
    pictures = config.pictures
    name = config.visual.backbones[0]
    listed = _find_listed(name) if follows_backbone(config) else None
    if listed is None:
        return pictures

    _, height, width = listed["input_size"]
    share = listed["crop_pct"]
    mode = listed["crop_mode"]
    known = get_args(Pictures.model_fields["interpolation"].annotation)
    fits = height == width and share <= 1 and mode in ("center", "squash")
    if not fits or listed["interpolation"] not in known:
        what = f"{name} takes pictures of {height} x {width}, {mode}, {share:g} of them cut out"
        allowed = f"squares, center or squash, at most 1, {' or '.join(known)}"
        raise make_error("visual.backbone", what, allowed, "set pictures.preparation to settings")

    changes = {
        "interpolation": listed["interpolation"],
        "resize": int(height / share),  # rounded down, as timm does
        "squash": mode == "squash",
        "size": height,
    }
    return pictures.model_copy(update=changes)


def find_colours(backbone: str) -> Colours:
    """Return the normalisation of pictures that a visual backbone expects.

    torchvision's constants for `convnext`; for other backbones those that timm lists, or
    torchvision's if it has none.
    """
    listed = None if backbone == "convnext" else _find_listed(backbone)
    return IMAGENET if listed is None else Colours(tuple(listed["mean"]), tuple(listed["std"]))


def _find_listed(backbone: str) -> dict[str, Any] | None:
    """Return the data configuration that timm lists for a backbone, if it lists one."""
    import timm
    from timm.data import resolve_data_config

    settings = timm.get_pretrained_cfg(backbone)
    if settings is None:
        return None
    listed: dict[str, Any] = resolve_data_config(pretrained_cfg=settings.to_dict())
    return listed
