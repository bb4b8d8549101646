"""The whole model: two branches, a fusion of what they say, scene logits (Fig. 1 of the paper).

With one modality the other branch is not built, its input is ignored, and the fusion layer gets one branch's tokens
(Table IV).
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avsc_core.config import Config
from avsc_core.model.audio import AudioEncoder, build_audio_backbone, find_audio_width
from avsc_core.model.branch import Branch, freeze, to_float32
from avsc_core.model.fusion import FUSIONS, Branches, FusionLayer, FusionParts
from avsc_core.model.visual import VisualEncoder, build_visual_backbone, find_visual_width


class Outputs(NamedTuple):
    """What the model says of B clips, logits in float32; None for a branch that the modality leaves out."""

    event_logits: Tensor | None  # (B,E)
    object_logits: Tensor | None  # (B,O)
    scene_logits: Tensor  # (B,S)
    event_embedding: Tensor | None  # (B,D)
    object_embedding: Tensor | None  # (B,D)


class AudioVisualNet(nn.Module):
    """log_mel (B,T,128), frames (B,F,3,H,W) -> Outputs; a branch without encoder is given features (B,width)."""

    def __init__(self, audio: Branch | None, visual: Branch | None, fusion: nn.Module) -> None:
        super().__init__()
        self.audio = audio
        self.visual = visual
        self.fusion = fusion

    def forward(self, log_mel: Tensor | None, frames: Tensor | None) -> Outputs:
        event_embedding, event_logits = (
            self.audio(log_mel) if self.audio else (None, None)
        )  # (B,D), (B,E)
        object_embedding, object_logits = (
            self.visual(frames) if self.visual else (None, None)
        )  # (B,D), (B,O)
        fused = self.fusion(
            Branches(event_logits, object_logits, event_embedding, object_embedding)
        )
        return Outputs(
            event_logits, object_logits, to_float32(fused), event_embedding, object_embedding
        )

    @property
    def event_classifier_weight(self) -> Tensor | None:
        """(E,D), the rows that CEOA aligns."""
        return self.audio.classifier.weight if self.audio else None

    @property
    def object_classifier_weight(self) -> Tensor | None:
        """(O,D)."""
        return self.visual.classifier.weight if self.visual else None

    @property
    def branches(self) -> dict[str, Branch]:
        """The branches there are, by name."""
        return {
            name: branch
            for name, branch in (("audio", self.audio), ("visual", self.visual))
            if branch
        }


def build_model(config: Config, without: frozenset[str] = frozenset()) -> AudioVisualNet:
    """The model of a configuration with random weights; the branches named in `without` get no encoder.

    Raises UserError when a backbone is unknown or does not take the input.
    """
    heads, micro_batch, audio, visual = config.fusion, config.compute.micro_batch, None, None
    if config.modality != "visual":
        width = find_audio_width(
            config.audio.backbone, config.log_mel.frames, "audio.backbone", **_ast(config)
        )
        audio = Branch(width, config.audio.embedding, config.audio.classes, micro_batch)
    if config.modality != "audio":
        look, size = config.visual, config.pictures.size
        width = find_visual_width(
            look.backbone, size, "visual.backbone", pooling=look.pooling, **_convnext(config)
        )
        visual = Branch(width, config.visual.embedding, config.visual.classes, micro_batch)
    parts = FusionParts(
        config.audio.classes if audio else 0,
        config.visual.classes if visual else 0,
        config.audio.embedding,
        partial(FusionLayer, heads.hidden, heads.dropout, config.scenes, heads.literal_relu),
        config.scenes,
        **heads.model_dump(
            include={"heads", "head_width", "tokens", "bias", "attention_dropout", "decision"}
        ),
    )
    fusion = FUSIONS[heads.kind if audio and visual else "none"](
        parts
    )  # one modality has nothing to fuse
    model = AudioVisualNet(audio, visual, fusion)
    for name, branch in model.branches.items():
        if name not in without:
            branch.encoder = build_encoder(config, name)
    return model


def build_encoder(config: Config, branch: str) -> nn.Module:
    """The encoder of branch `audio` or `visual`, frozen as configured.

    Its random weights depend on the configuration's seed alone, so that a frozen encoder's features, computed once,
    are those of every trial with that seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if branch == "audio":
            settings, size = config.audio, config.log_mel.frames
            backbone = build_audio_backbone(
                settings.backbone, size, "audio.backbone", **_ast(config)
            )
            encoder: nn.Module = AudioEncoder(backbone)
            policy = settings.freeze
        else:
            look, size = config.visual, config.pictures.size
            backbone = build_visual_backbone(
                look.backbone, size, "visual.backbone", **_convnext(config)
            )
            layout = (
                torch.channels_last if config.compute.channels_last else torch.contiguous_format
            )
            encoder = VisualEncoder(backbone, look.pooling, layout)
            policy = look.freeze
    freeze(backbone, policy, f"{branch}.freeze")
    if config.compute.checkpointing:
        backbone.set_grad_checkpointing(True)  # type: ignore[operator]
    if config.compute.compile:
        encoder.compile()
    return encoder


def _ast(config: Config) -> dict[str, int]:
    return config.audio.model_dump(include={"width", "depth", "heads", "patch", "stride"})


def _convnext(config: Config) -> dict[str, tuple[int, ...]]:
    return config.visual.model_dump(include={"depths", "dims"})
