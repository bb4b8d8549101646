"""A published checkpoint -> its tensors under our names, and its publisher's settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from avsc_core.data.logmel import MEL_BINS
from avsc_core.errors import make_error
from avsc_core.weights.layouts import LAYOUTS, Tensors, recognise
from avsc_core.weights.sources import locate, read_publisher_settings
from avsc_core.weights.unwrapping import read_tensors


class PublishedWeights(NamedTuple):
    """A published checkpoint, with its tensors under our names."""

    file: Path
    layout: str
    tensors: Tensors
    settings: Mapping[str, Any]  # from config.json beside it
    norm_eps: float | None = None  # of its LayerNorms; None: that of timm's model
    heads: tuple[str, ...] = ()  # prefixes of the names in its own classifier
    head_eps: float | None = None  # of the LayerNorm in that classifier


def read_published(kind: str, source: str, where: str) -> PublishedWeights:
    """Read a checkpoint of `ast`, of `convnext`, or of the timm model `kind`.

    `source` names the checkpoint, and `where` is the setting that does so. Raises UserError when
    it cannot be read or is in no known layout.
    """
    file = locate(source, where)
    tensors, taken = read_tensors(file)
    average = f", averaged over the training ({taken})" if taken else ""
    settings = read_publisher_settings(file)
    if kind not in LAYOUTS:
        return PublishedWeights(file, f"timm {kind}{average}", tensors, settings)

    layout = recognise(kind, tensors)
    if layout is None:
        first = ", ".join(list(tensors)[:3])
        what = f"the file is not a checkpoint of {kind} (it begins with {first})"
        publishers = {
            "ast": "the authors' file or Hugging Face's",
            "convnext": "torchvision's file or timm's",
        }
        allowed = publishers[kind]
        raise make_error(file, what, allowed)
    norm_eps = float(settings.get("layer_norm_eps", layout.norm_eps))
    return PublishedWeights(
        file,
        layout.title + average,
        layout.rename(tensors),
        settings,
        norm_eps=norm_eps,
        heads=layout.heads,
        head_eps=layout.head_eps or norm_eps,
    )


def find_position_grid(published: PublishedWeights, stride: int) -> tuple[int, int]:
    """Find how many patches (mel, time) a published AST was trained on.

    `stride` is used where its publisher's settings do not say. Raises UserError when the position
    embeddings do not fill a grid of whole columns.
    """
    tensors = published.tensors
    patch = tensors["patch_embed.proj.weight"].shape[-1]
    mel_stride = int(published.settings.get("frequency_stride", stride))
    mel = (MEL_BINS - patch) // mel_stride + 1
    count = tensors["pos_embed"].shape[1] - 2  # without cls and dist
    if count < mel or count % mel:
        raise make_error(
            published.file,
            f"{count} position embeddings do not fill a grid of {mel} mel patches",
            f"patches of {patch} at stride {stride}",
        )
    return mel, count // mel


def count_attention_heads(published: PublishedWeights, width: int, heads: int) -> int:
    """Find the number of attention heads of a published AST, which no tensor shows.

    It is the publisher's number if there is one. Otherwise it is `heads`, the configured number, if
    the checkpoint is as wide as the configured `width`, and else as many as give each head the 64
    dimensions that AST's heads have.
    """
    published_width = published.tensors["cls_token"].shape[-1]
    default = heads if published_width == width else max(1, published_width // 64)
    return int(published.settings.get("num_attention_heads", default))
