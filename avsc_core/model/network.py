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
from avsc_core.data.logmel import MEL_BINS
from avsc_core.errors import make_error
from avsc_core.labels import COARSE_CLASSES
from avsc_core.model.audio import AudioEncoder, build_audio_backbone
from avsc_core.model.branch import Branch, JoinedEncoders, freeze, read_encoding_width, to_float32
from avsc_core.model.fusion import FUSIONS, Branches, FusionLayer, FusionParts
from avsc_core.model.pooling import FIXED, build_pooling
from avsc_core.model.visual import Recolour, VisualEncoder, build_visual_backbone
from avsc_core.resolve import find_given_encodings
from avsc_core.weights.encodings import read_encoding_shape
from avsc_core.weights.preparation import choose_pictures, find_colours


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

    A branch without an encoder takes encodings instead, (B,width) or (B,F,width). `coarse` is a
    second fusion, with logits of indoor, outdoor and transportation.
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

    The branches named in `without`, and those with encodings computed elsewhere, get no encoder.
    Raises UserError when a backbone is unknown or does not take the input.
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
        if name not in without and name not in find_given_encodings(config):
            branch.encoder = build_encoder(config, name)
    return model


def build_encoder(config: Config, branch: str) -> nn.Module:
    """Build the encoder of branch `audio` or `visual`, frozen as configured.

    Its random weights depend on the configuration's seed alone. So the encodings of a frozen
    encoder, computed once, are those of every trial with that seed.
    """
    settings = getattr(config, branch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbones = [_build_backbone(config, branch, name) for name in settings.backbones]

    for backbone in backbones:
        freeze(backbone, settings.freeze, f"{branch}.freeze")
        if config.compute.checkpointing:
            backbone.set_grad_checkpointing(True)  # type: ignore[operator]

    # A learned pooling is not part of the encoder: it comes after it, in the branch.
    width = sum(map(read_encoding_width, backbones))
    steps = _count_steps(config, branch)
    pool: nn.Module = nn.Identity()
    if steps and settings.pooling in FIXED:
        pool = build_pooling(settings.pooling, width, steps)

    if len(backbones) == 1:
        encoder = _build_single_encoder(config, branch, 0, backbones[0], pool)
    else:
        encoders = []
        for number, backbone in enumerate(backbones):
            single = _build_single_encoder(config, branch, number, backbone, nn.Identity())
            encoders.append(single)
        encoder = JoinedEncoders(encoders, pool)
    if config.compute.compile:
        encoder.compile()
    return encoder


def find_encoding_shape(config: Config, branch: str) -> tuple[int, ...]:
    """Find the shape of what a branch gets of one clip from its encoder, or in its place.

    It is (width,), or (steps,width) before a learned pooling and for sequences computed elsewhere.
    """
    settings = getattr(config, branch)
    if settings.encodings:
        return _find_given_shape(config, branch)

    width = sum(_find_backbone_width(config, branch, name) for name in settings.backbones)
    steps = _count_steps(config, branch)
    if not steps:
        return (width,)
    if settings.pooling in FIXED:
        return (build_pooling(settings.pooling, width, steps).width,)  # type: ignore[return-value]
    return (steps, width)


def _find_given_shape(config: Config, branch: str) -> tuple[int, ...]:
    """Find the shape of a clip's encoding that was computed elsewhere.

    Raises UserError when it has another number of pieces of sound than `audio.pieces`, which says
    whether `audio.pooling` has an effect.
    """
    file = getattr(config, branch).encodings
    shape = read_encoding_shape(file, f"{branch}.encodings")
    pieces = shape[0] if len(shape) == 2 else 1
    if branch == "audio" and pieces != config.audio.pieces:
        what = f"{config.audio.pieces} in the configuration, {pieces} in {file}"
        raise make_error("audio.pieces", what, todo=f"set it to {pieces}")
    return shape


def check_computation(model: AudioVisualNet, config: Config) -> None:
    """Check that `compute` changes no number of a training. Raises UserError.

    Batch normalisation that learns looks at all clips of a batch at once, and notes their
    statistics each time it is run; micro-batches show it a few, and both settings run it twice.
    """
    changed = []
    if config.compute.micro_batch is not None:
        changed.append("compute.micro_batch")
    if config.compute.checkpointing:
        changed.append("compute.checkpointing")
    if not changed:
        return

    for name, branch in model.branches.items():
        if any(map(_learns_batch_statistics, branch.modules())):
            what = f"it changes the numbers of {name}.backbone, which normalises over the batch"
            todo = f"leave it out, or freeze the backbone with {name}.freeze=all"
            raise make_error(" and ".join(changed), what, todo=todo)


def check_pieces(config: Config) -> None:
    """Check that stand-ins for AST take pieces of sound as short as `audio.pieces` makes them.

    timm builds most of its models whatever the size of their input, and torch's meta device does
    not notice that a convolution is wider than its input; so each is built and run once. Pieces
    that are too short for AST do not make a configuration. Raises UserError.
    """
    settings = config.audio
    has_pieces = "audio" in config.modality and settings.pieces > 1
    if not has_pieces or settings.encodings:
        return

    frames = config.log_mel.frames // settings.pieces
    piece = torch.zeros(1, 1, MEL_BINS, frames)
    for name in settings.backbones:
        if name == "ast":
            continue
        backbone = _build_backbone(config, "audio", name).eval()
        try:
            with torch.inference_mode():
                backbone(piece)
        except (RuntimeError, ValueError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            what = f"{name} does not take pieces of {frames} frames ({reason})"
            todo = "fewer pieces, more log_mel.frames or another backbone"
            raise make_error("audio.pieces", what, todo=todo) from None


def _learns_batch_statistics(module: nn.Module) -> bool:
    """Tell whether a module normalises over the batch while it trains (see `Branch.train`)."""
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    parameters = list(module.parameters())
    return not parameters or any(parameter.requires_grad for parameter in parameters)


def _build_backbone(config: Config, branch: str, name: str) -> nn.Module:
    """Build the backbone `name` of branch `audio` or `visual` with random weights."""
    if branch == "audio":
        sizes = config.audio.model_dump(include={"width", "depth", "heads", "patch", "stride"})
        frames = config.log_mel.frames // config.audio.pieces
        return build_audio_backbone(name, frames, "audio.backbone", **sizes)
    sizes = config.visual.model_dump(include={"depths", "dims"})
    size = choose_pictures(config).size
    return build_visual_backbone(name, size, "visual.backbone", **sizes)


def _build_single_encoder(
    config: Config, branch: str, number: int, backbone: nn.Module, pool: nn.Module
) -> nn.Module:
    """Build an encoder around the backbone that is `number` among those of its branch."""
    if branch == "audio":
        return AudioEncoder(backbone, config.audio.pieces, pool)

    channels_last = config.compute.channels_last
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    # Frames come normalised for the first backbone.
    names = config.visual.backbones
    given = find_colours(names[0])
    wanted = find_colours(names[number])
    recolour = Recolour(given, wanted) if wanted != given else None
    return VisualEncoder(backbone, pool, memory_format, recolour)


def _count_steps(config: Config, branch: str) -> int:
    """Count the encodings of one clip that a branch pools; 0 for a log-mel in one piece."""
    if branch == "visual":
        return config.pictures.frames
    return config.audio.pieces if config.audio.pieces > 1 else 0


def _find_backbone_width(config: Config, branch: str, name: str) -> int:
    """Find the width of the encodings that a backbone makes."""
    if (branch, name) == ("audio", "ast"):
        return config.audio.width
    if (branch, name) == ("visual", "convnext"):
        return config.visual.dims[-1]
    # On torch's meta device a backbone has shapes but takes neither memory nor random numbers.
    with torch.device("meta"):
        return read_encoding_width(_build_backbone(config, branch, name))


def _build_branch(config: Config, name: str) -> Branch:
    """Build a branch without its encoder."""
    settings = getattr(config, name)
    *steps, width = find_encoding_shape(config, name)
    pool = build_pooling(settings.pooling, width, steps[0]) if steps else None
    return Branch(
        pool.width if pool else width,  # type: ignore[arg-type]
        settings.embedding,
        settings.classes,
        config.compute.micro_batch,
        pool,
    )


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
