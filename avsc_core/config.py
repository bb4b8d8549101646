"""The configuration of one trial: every choice the paper states or leaves open, typed, checked and frozen.

The defaults below are the paper's (preset `paper`); where the paper is silent the comment says so and why the value was
taken. A preset states only its difference. A configuration is resolved from a preset and a list of overrides
(`--set`, a study's base, an arm, a sampled trial), and a fault names the place of the override that caused it.
Modules never see this object: builders turn it into plain arguments.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from avsc_core.weights.sources import make_absolute


def _freezing(value: str | int) -> str | int:
    if isinstance(value, bool) or (
        value not in ("none", "all") and not (isinstance(value, int) and value > 0)
    ):
        raise ValueError("none, all, or how many stages from the input on")
    return value


Positive = Annotated[int, Field(gt=0)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
WeightsFile = Annotated[str, AfterValidator(make_absolute)]
Freezing = Annotated[str | int, BeforeValidator(_freezing)]  # before `true` is made 1


class Section(BaseModel):
    """A frozen group of fields that accepts nothing it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LogMel(Section):
    """Log-mel spectrogram (T,128), as kaldi's fbank computes it (Section IV of the paper)."""

    sample_rate: Annotated[int, Field(ge=4000, le=48000)] = 16000  # Hz, mono
    window: Literal["hamming", "hanning"] = "hamming"
    window_ms: Annotated[float, Field(gt=0)] = 25.0
    hop_ms: Annotated[float, Field(gt=0)] = 10.0
    frames: Positive = 1024  # T; shorter clips are padded, longer ones cut
    normalise: Literal["audioset", "dataset", "peak"] = "audioset"
    stored: Literal["float32", "float16"] = (
        "float32"  # in the cache; float16 halves it and rounds to 3 digits
    )


class Media(Section):
    """Recordings that are not 10 s long, by more than 50 ms; what is done about them is counted."""

    short: Literal["error", "pad"] = "error"  # pad: with silence, and with the last picture
    long: Literal["error", "crop"] = "error"


class Pictures(Section):
    """Frames of a clip (F,3,H,W)."""

    frames: Positive = 10  # F, spread evenly over the clip: one a second
    offset_s: Annotated[float, Field(ge=0)] = (
        0.4  # not in the paper; inside the second, off its first key frame
    )
    resize: Positive | None = 232  # shorter side before the cut, as torchvision has it; none: size
    size: Annotated[int, Field(ge=32)] = 224  # H = W, pixels

    @model_validator(mode="after")
    def _crop_fits(self) -> "Pictures":
        if self.resize is not None and self.resize < self.size:
            raise ValueError(
                f"size|{self.size} is above pictures.resize {self.resize}, which it is cut out of"
            )
        return self


class Audio(Section):
    """Audio branch: AST, a distilled vision transformer over log-mel patches; (cls + dist) / 2 -> head.

    Any other image backbone of timm may stand in by its name; width to stride are AST's and then mean nothing.
    """

    backbone: str = "ast"
    weights: WeightsFile | None = None  # a path, a folder or hf-hub:OWNER/NAME@COMMIT; none: random
    freeze: Freezing = "none"  # none, all, or the first N stages (blocks of a transformer)
    width: Positive = 768
    depth: Positive = 12
    heads: Positive = 12
    patch: Positive = 16  # mel bins and frames
    stride: Positive = 10  # AST's overlap of 6
    embedding: Positive = 1024  # D: the classifier is (E,D)
    classes: Annotated[int, Field(ge=2)] = 527  # E

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Audio":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Visual(Section):
    """Visual branch: ConvNeXt on each frame; features pooled over frames -> head.

    Any other image backbone of timm may stand in by its name; depths and dims are ConvNeXt's and then mean nothing.
    """

    backbone: str = "convnext"
    weights: WeightsFile | None = None  # as audio.weights
    freeze: Freezing = "none"  # as audio.freeze
    depths: tuple[Positive, Positive, Positive, Positive] = (3, 3, 27, 3)
    dims: tuple[Positive, Positive, Positive, Positive] = (128, 256, 512, 1024)
    pooling: Literal["mean", "max", "mean+max"] = (
        "mean"  # over frames; not in the paper: AST averages too
    )
    embedding: Positive = 1024  # D: the classifier is (O,D)
    classes: Annotated[int, Field(ge=2)] = 1000  # O


class Alignment(Section):
    """Contrastive event-object alignment (CEOA, Eq. 3 and 4)."""

    enabled: bool = True
    k: Positive = 5  # K most against K least likely (lkm) or K random (rkm) classes
    mode: Literal["lkm", "rkm"] = "lkm"


class Fusion(Section):
    """Semantic-based fusion (SF, Eq. 5), its rivals, and the fusion layer (Eq. 6)."""

    # none: the same layer without the attention (Table II, row 1); the others: avsc_core/model/fusion.py
    kind: Literal["semantic", "none", "intermediate", "decision", "hybrid"] = "semantic"
    heads: Positive = 8
    head_width: Positive = 64  # d
    tokens: Literal["probability", "logit"] = "probability"
    bias: bool = False  # Eq. 5 has none
    attention_dropout: Share = (
        0.0  # on what SF adds; 0.1 with a bias is the other reading, that of a transformer layer
    )
    decision: Literal["mean", "weighted", "class-wise"] = (
        "mean"  # how `decision` and `hybrid` weigh their scores
    )
    hidden: Positive = 1024  # H
    dropout: Share = 0.1  # not in the paper; the usual value
    literal_relu: bool = (
        False  # a ReLU on the scene logits, as the equation reads; it can silence classes
    )


class LossWeights(Section):
    """lambda_1 .. lambda_5 of Eq. 7."""

    event: Weight = 1.0
    object: Weight = 1.0
    e2o: Weight = 1.0
    o2e: Weight = 1.0
    scene: Weight = 1.0


class Losses(Section):
    """How Eq. 1 and 2 are reduced over classes; mean(lambda) equals sum(lambda / C)."""

    bce_reduction: Literal["sum", "mean"] = "sum"


class Training(Section):
    """Optimisation: AdamW at one learning rate (Section IV)."""

    epochs: Positive = 100
    batch_size: Positive = 16
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 5e-6
    head_multiplier: Annotated[float, Field(gt=0)] = (
        1.0  # learning rate of the new layers over that of the backbones
    )
    weight_decay: Weight = 0.01  # not in the paper; AdamW's default
    precision: Literal["float32", "bf16", "fp16"] = (
        "float32"  # of the model's products; losses stay in float32
    )
    warmup: Share = 0.0  # share of all steps with a linearly rising rate; the paper states none


class Augmentation(Section):
    """Training clips changed at random (data/augment.py); the paper uses none, so all of it is off."""

    gain_db: Weight = 0.0  # each clip louder or quieter by up to so many dB
    time_mask: Share = 0.0  # SpecAugment: widest hidden share of the log-mel's frames
    mel_mask: Share = 0.0  # and of its bins
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0  # probability that a clip is mirrored
    crop: Share = 0.0  # largest share of a picture's side that is cut off
    rand_augment: Annotated[int, Field(ge=0)] = 0  # operations on each clip's pictures
    mixup: Weight = 0.0  # alpha of the Beta distribution of shares
    mixup_partners: Literal["joint", "single"] = (
        "joint"  # the same partner for sound and pictures, or one for each
    )


class PseudoLabels(Section):
    """From teachers' logits to labels (Section IV); for data sets whose label file `avsc-core pseudo` wrote."""

    event_threshold: Probability = 0.0365  # on AST's sigmoid
    object_threshold: Probability = 0.9216  # on ConvNeXt's; a logit of 2.464
    object_activation: Literal["sigmoid", "softmax"] = (
        "sigmoid"  # softmax hardly ever reaches 0.9216
    )
    object_pooling: Literal["max", "mean"] = "max"  # of probabilities over frames


class Compute(Section):
    """How the same numbers are computed, up to rounding: memory against time."""

    channels_last: bool = False  # memory format of pictures
    compile: bool = False  # torch.compile on both backbones
    checkpointing: bool = False  # keep no activations inside the backbones, compute them again
    micro_batch: Positive | None = (
        None  # clips that a backbone holds activations of at a time; none: the whole batch
    )


class Split(Section):
    """Validation: a part of the training split, cut by location; the test split is read once, at the end."""

    rule: Literal["share", "fold", "baseline"] = (
        "share"  # baseline: that of the challenge's own system
    )
    validation: Annotated[float, Field(gt=0, lt=1)] = (
        0.1  # share of each scene's training locations
    )
    fold: Annotated[int, Field(ge=0)] = (
        0  # with rule fold: which of `folds` equal parts of the locations
    )
    folds: Annotated[int, Field(ge=2)] = 5
    seed: Annotated[int, Field(ge=0)] = 0  # of share and fold; the baseline has its own

    @model_validator(mode="after")
    def _fold_exists(self) -> "Split":
        if self.fold >= self.folds:
            raise ValueError(
                f"fold|{self.fold} is no fold of {self.folds}; allowed: 0 to {self.folds - 1}"
            )
        return self


class Config(Section):
    """One trial, resolved: everything that decides its numbers, and where to run it."""

    modality: Literal["audio-visual", "audio", "visual"] = "audio-visual"
    media: Media = Media()
    log_mel: LogMel = LogMel()
    pictures: Pictures = Pictures()
    audio: Audio = Audio()
    visual: Visual = Visual()
    alignment: Alignment = Alignment()
    fusion: Fusion = Fusion()
    loss_weights: LossWeights = LossWeights()
    losses: Losses = Losses()
    training: Training = Training()
    augmentation: Augmentation = Augmentation()
    pseudo: PseudoLabels = PseudoLabels()
    compute: Compute = Compute()
    split: Split = Split()
    scenes: Annotated[int, Field(ge=2)] = 10  # S; their names are the data set's
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    workers: Annotated[int, Field(ge=0)] = (
        0  # processes that build the feature cache; 0: one per core
    )

    @property
    def k_max(self) -> int:
        """The largest K whose most and least likely classes do not overlap: half of the smaller label set."""
        return min(self.audio.classes, self.visual.classes) // 2

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        if self.alignment.k > self.k_max:
            raise ValueError(
                f"alignment.k|{self.alignment.k} is above half the classes; allowed: 1 to {self.k_max}"
            )
        if self.audio.embedding != self.visual.embedding:
            raise ValueError(
                "visual.embedding|must equal audio.embedding: Eq. 3 multiplies the two classifiers"
            )
        if self.augmentation != Augmentation() and "all" in (self.audio.freeze, self.visual.freeze):
            raise ValueError(
                "augmentation|the features of a frozen encoder are computed once, of clips as they are"
            )
        if not any(self.loss_weights.model_dump().values()):
            raise ValueError("loss_weights|all five are 0: nothing to learn")
        return self
