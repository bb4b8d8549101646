"""The whole model (Fig. 1 of the paper): two branches, and a fusion of their outputs.

    log_mel (B,T,128)   -> audio branch  -> event embedding (B,D), event logits (B,E)
    frames (B,F,3,H,W)  -> visual branch -> object embedding (B,D), object logits (B,O)
    all four            -> fusion        -> scene logits (B,S)

With one modality (Table IV), the other branch is not built and its input is ignored; the fusion
layer then gets the tokens of one branch.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avsc_core.config import Config
from avsc_core.labels import COARSE_CLASSES
from avsc_core.model.audio import AudioEncoder, build_audio_backbone
from avsc_core.model.branch import Branch, freeze, read_encoding_width, to_float32
from avsc_core.model.fusion import FUSIONS, Branches, FusionLayer, FusionParts
from avsc_core.model.visual import VisualEncoder, build_visual_backbone


class Outputs(NamedTuple):
    """The model's outputs for B clips, logits in float32; None for a branch that is not built."""

    event_logits: Tensor | None  # (B,E)
    object_logits: Tensor | None  # (B,O)
    scene_logits: Tensor  # (B,S)
    event_embedding: Tensor | None  # (B,D)
    object_embedding: Tensor | None  # (B,D)
    coarse_logits: Tensor | None = None  # (B,3), with `losses.coarse`


class AudioVisualNet(nn.Module):
    """log_mel (B,T,128), frames (B,F,3,H,W) -> Outputs.

    A branch without an encoder takes encodings (B,width) instead. `coarse` is a second fusion, with
    logits of indoor, outdoor and transportation.
    """

    def __init__(
        self,
        audio: Branch | None,
        visual: Branch | None,
        fusion: nn.Module,
        coarse: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.audio = audio
        self.visual = visual
        self.fusion = fusion
        self.coarse = coarse

    def forward(self, log_mel: Tensor | None, frames: Tensor | None) -> Outputs:
        # Embeddings (B,D) and logits (B,E) and (B,O) of the branches.
        nothing = (None, None)
        event_embedding, event_logits = self.audio(log_mel) if self.audio else nothing
        object_embedding, object_logits = self.visual(frames) if self.visual else nothing

        branches = Branches(event_logits, object_logits, event_embedding, object_embedding)
        scene_logits = to_float32(self.fusion(branches))  # (B,S)
        coarse_logits = to_float32(self.coarse(branches)) if self.coarse else None  # (B,3)
        return Outputs(
            event_logits,
            object_logits,
            scene_logits,
            event_embedding,
            object_embedding,
            coarse_logits,
        )

    @property
    def event_classifier_weight(self) -> Tensor | None:
        """The rows (E,D) of the event classifier, which CEOA aligns with those of the objects."""
        return self.audio.classifier.weight if self.audio else None

    @property
    def object_classifier_weight(self) -> Tensor | None:
        """The rows (O,D) of the object classifier, which CEOA aligns with those of the events."""
        return self.visual.classifier.weight if self.visual else None

    @property
    def branches(self) -> dict[str, Branch]:
        """The branches of this model by name, `audio` before `visual`."""
        both = {"audio": self.audio, "visual": self.visual}
        return {name: branch for name, branch in both.items() if branch is not None}


def build_model(config: Config, without: frozenset[str] = frozenset()) -> AudioVisualNet:
    """Build the model of a configuration with random weights.

    The branches named in `without` get no encoder. Raises UserError when a backbone is unknown or
    does not take the input.
    """
    # Random weights are drawn in this order, so it is part of a trial's numbers.
    branches = {name: _build_branch(config, name) for name in config.modality.split("-")}
    audio = branches.get("audio")
    visual = branches.get("visual")
    fusion = _build_fusion(config, audio, visual, config.scenes)
    coarse = None
    if config.losses.coarse:
        coarse = _build_fusion(config, audio, visual, len(COARSE_CLASSES))

    model = AudioVisualNet(audio, visual, fusion, coarse)
    for name, branch in model.branches.items():
        if name not in without:
            branch.encoder = build_encoder(config, name)
    return model


def build_encoder(config: Config, branch: str) -> nn.Module:
    """Build the encoder of branch `audio` or `visual`, frozen as configured.

    Its random weights depend on the configuration's seed alone. So the encodings of a frozen
    encoder, computed once, are those of every trial with that seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = _build_backbone(config, branch)

    freeze(backbone, getattr(config, branch).freeze, f"{branch}.freeze")
    if config.compute.checkpointing:
        backbone.set_grad_checkpointing(True)  # type: ignore[operator]

    encoder: nn.Module = AudioEncoder(backbone)
    if branch == "visual":
        channels_last = config.compute.channels_last
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        encoder = VisualEncoder(backbone, config.visual.pooling, memory_format)
    if config.compute.compile:
        encoder.compile()
    return encoder


def _build_backbone(config: Config, branch: str) -> nn.Module:
    """Build the backbone of branch `audio` or `visual` with random weights."""
    if branch == "audio":
        sizes = config.audio.model_dump(include={"width", "depth", "heads", "patch", "stride"})
        frames = config.log_mel.frames
        return build_audio_backbone(config.audio.backbone, frames, "audio.backbone", **sizes)
    sizes = config.visual.model_dump(include={"depths", "dims"})
    size = config.pictures.size
    return build_visual_backbone(config.visual.backbone, size, "visual.backbone", **sizes)


def _build_branch(config: Config, name: str) -> Branch:
    """Build a branch without its encoder."""
    settings = getattr(config, name)
    if (name, settings.backbone) == ("audio", "ast"):
        width = settings.width
    elif (name, settings.backbone) == ("visual", "convnext"):
        width = settings.dims[-1]
    else:
        # On torch's meta device a backbone has shapes but takes neither memory nor random numbers.
        with torch.device("meta"):
            width = read_encoding_width(_build_backbone(config, name))
    if name == "visual" and settings.pooling == "mean+max":
        width *= 2
    return Branch(width, settings.embedding, settings.classes, config.compute.micro_batch)


def _build_fusion(
    config: Config, audio: Branch | None, visual: Branch | None, scenes: int
) -> nn.Module:
    """Build a fusion of the configured kind that ends in `scenes` logits."""
    settings = config.fusion
    layer = partial(FusionLayer, settings.hidden, settings.dropout, scenes, settings.literal_relu)
    parts = FusionParts(
        events=config.audio.classes if audio else 0,
        objects=config.visual.classes if visual else 0,
        embedding=config.audio.embedding,
        layer=layer,
        scenes=scenes,
        **settings.model_dump(exclude={"kind", "hidden", "dropout", "literal_relu"}),
    )
    # One modality has nothing to fuse.
    kind = settings.kind if audio and visual else "none"
    return FUSIONS[kind](parts)
