"""The whole model: two branches, a fusion of what they say, scene logits (Fig. 1 of the paper).

With one modality the other branch is not built, its input is ignored, and the fusion layer gets one branch's tokens
(Table IV).
"""

from typing import NamedTuple

from torch import Tensor, nn

from avsc_core.config import Config
from avsc_core.labels import SCENES
from avsc_core.model.audio import AudioBranch
from avsc_core.model.fusion import FUSIONS, Branches, FusionLayer
from avsc_core.model.visual import VisualBranch


class Outputs(NamedTuple):
    """What the model says of B clips; None for a branch that the modality leaves out."""

    event_logits: Tensor | None  # (B,E)
    object_logits: Tensor | None  # (B,O)
    scene_logits: Tensor  # (B,S)
    event_embedding: Tensor | None  # (B,D)
    object_embedding: Tensor | None  # (B,D)


class AudioVisualNet(nn.Module):
    """log_mel (B,T,128), frames (B,F,3,H,W) -> Outputs."""

    def __init__(
        self, audio: AudioBranch | None, visual: VisualBranch | None, fusion: nn.Module, fusion_layer: FusionLayer
    ) -> None:
        super().__init__()
        self.audio = audio
        self.visual = visual
        self.fusion = fusion
        self.fusion_layer = fusion_layer

    def forward(self, log_mel: Tensor | None, frames: Tensor | None) -> Outputs:
        event_embedding, event_logits = self.audio(log_mel) if self.audio else (None, None)  # (B,D), (B,E)
        object_embedding, object_logits = self.visual(frames) if self.visual else (None, None)  # (B,D), (B,O)
        fused = self.fusion(Branches(event_logits, object_logits, event_embedding, object_embedding))
        scene_logits = self.fusion_layer(fused)  # (B,S)
        return Outputs(event_logits, object_logits, scene_logits, event_embedding, object_embedding)

    @property
    def event_classifier_weight(self) -> Tensor | None:
        """(E,D), the rows that CEOA aligns."""
        return self.audio.classifier.weight if self.audio else None

    @property
    def object_classifier_weight(self) -> Tensor | None:
        """(O,D)."""
        return self.visual.classifier.weight if self.visual else None


def build_model(config: Config) -> AudioVisualNet:
    """The model of a configuration, with random weights from torch's global generator."""
    audio = visual = None
    if config.modality != "visual":
        audio = AudioBranch(frames=config.log_mel.frames, **config.audio.model_dump())
    if config.modality != "audio":
        visual = VisualBranch(**config.visual.model_dump())
    inputs = (config.audio.classes if audio else 0) + (config.visual.classes if visual else 0)
    settings = config.fusion
    kind = settings.kind if audio and visual else "none"  # one modality has nothing to attend to
    fusion = FUSIONS[kind](settings.heads, settings.head_width, settings.tokens)
    layer = FusionLayer(inputs, settings.hidden, settings.dropout, len(SCENES), settings.literal_relu)
    return AudioVisualNet(audio, visual, fusion, layer)
