"""The configuration of one trial: every choice that the paper states or leaves open, typed, checked
and frozen.

A `Config` has one section for each part of the model and of the training. Each field is reached by
a dotted key such as `alignment.k`, the same in presets, study files, `--set` and the record. The
defaults are the paper's (preset `paper`). "Not in the paper" marks a value that the paper does not
state; the comment then says where the value comes from.

Input: values by dotted key, put together by `resolve.py`. Output: a checked `Config`, which
builders turn into plain arguments; the modules of the model never see it. Equations, tables and
sections are those of Hou, Kang and Botteldooren, "Audio-visual scene classification via contrastive
event-object alignment and semantic-based fusion" (MMSP 2022).

Letters of shapes: B clips, T log-mel frames, F pictures of a clip, D width of an embedding, E
events, O objects, S scenes.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from avsc_core.weights.sources import make_absolute


class FieldError(ValueError):
    """A rule across several fields is broken; `field` is the dotted key of the field that the
    message is about.

    pydantic locates an error of a model validator at the whole section, so the error itself names
    the field.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _check_freezing(value: str | int) -> str | int:
    """Accept `none`, `all` or a positive number of stages. Raises ValueError."""
    is_number = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if value not in ("none", "all") and not is_number:
        raise ValueError("none, all, or how many stages from the input on")
    return value


def _unwrap_single(value: object) -> object:
    """Replace a list of one by its element, so that both ways to write it are the same trial."""
    if isinstance(value, list | tuple) and len(value) == 1:
        return value[0]
    return value


def _check_backbones(value: object) -> object:
    """Accept the name of a backbone, or a list of names. Raises ValueError."""
    names = value if isinstance(value, list | tuple) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("the name of a backbone, or a list of names")
    return _unwrap_single(value)


def _check_weights(value: object) -> object:
    """Accept a source of weights, none, or a list of these, and make paths absolute.

    Raises ValueError.
    """
    paths = []
    for source in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(source, str | None):
            message = "a file, a folder, hf-hub:OWNER/NAME@COMMIT or null, or a list of these"
            raise ValueError(message)
        paths.append(source and make_absolute(source))
    return _unwrap_single(paths)


TwoOrMore = Annotated[int, Field(ge=2)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Factor = Annotated[float, Field(gt=0, le=1)]
EncodingsFile = Annotated[str, AfterValidator(make_absolute)]
# Checked before pydantic tries the types one by one, because it would report a fault for each.
Backbones = Annotated[str | tuple[str, ...], BeforeValidator(_check_backbones)]
Weights = Annotated[str | tuple[str | None, ...] | None, BeforeValidator(_check_weights)]
# Checked before pydantic converts the value, because pydantic would convert `true` to 1.
Freezing = Annotated[str | int, BeforeValidator(_check_freezing)]
# How the encodings of a clip's pictures, or of its pieces of sound, become one (model/pooling.py).
Pooling = Literal["mean", "max", "mean+max", "attention", "gru", "transformer"]


class Section(BaseModel):
    """A group of fields that cannot be changed and refuses unknown names and infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Fields that came after version 0.1.0. At their defaults a training is what it was before they
    # came, so `resolve.identify` leaves them out then, and trials of earlier versions keep their
    # keys.
    ADDED: ClassVar[frozenset[str]] = frozenset()


class LogMel(Section):
    """The log-mel spectrogram (T,128), the input of the audio branch, as kaldi's fbank computes it.

    The paper (Section III-A) states 128 mel bands, a Hamming window of 25 ms and a hop of 10 ms.
    """

    # In Hz, after averaging the channels. Not in the paper; AST was trained on 16 kHz.
    sample_rate: Annotated[int, Field(ge=4000, le=48000)] = 16000

    window: Literal["hamming", "hanning"] = "hamming"
    window_ms: PositiveFloat = 25.0
    hop_ms: PositiveFloat = 10.0

    # T. Shorter spectrograms are padded, longer ones are cut. Not in the paper; the length that AST
    # was trained on.
    frames: PositiveInt = 1024

    # Not in the paper. audioset: mean and deviation of AudioSet, as AST uses them. dataset: mean
    # and deviation of the training clips, without padding, which keeps AST's value. peak: the
    # constants of AudioSet, after scaling each recording to a peak of 1.
    normalise: Literal["audioset", "dataset", "peak"] = "audioset"

    # The number format in the feature cache; float16 takes half the space and keeps about 3 digits.
    stored: Literal["float32", "float16"] = "float32"


class Media(Section):
    """What to do with a recording that is more than 50 ms shorter or longer than 10 s.

    The paper's clips all last 10 s. Padded and cropped recordings are counted, and the counts are
    shown.
    """

    # pad: silence after the sound, and the last picture repeated.
    short: Literal["error", "pad"] = "error"

    # crop: only the first 10 s are used.
    long: Literal["error", "crop"] = "error"


class Pictures(Section):
    """The pictures of a clip (F,3,H,W), the input of the visual branch.

    The paper (Section III-A) states one picture a second, so 10 for a clip. It is silent on their
    size.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"interpolation", "squash"})

    # F, spread evenly over the clip.
    frames: PositiveInt = 10

    # When in its part of the clip (10 s / F) a picture is taken, in seconds. Not in the paper; 0.4
    # avoids the key frame with which a second may begin.
    offset_s: NonNegativeFloat = 0.4

    # Where the next four settings come from when another backbone stands in for ConvNeXt.
    # backbone: from what timm lists for it. settings: from here, as they always do for ConvNeXt.
    # Not in the paper; a backbone does best with the pictures that it was trained on.
    preparation: Literal["backbone", "settings"] = "backbone"

    # How pictures are resized. Not in the paper; torchvision prepares pictures for ConvNeXt-Base in
    # this way.
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    # Pixels of the shorter side before the centre is cut out; none: the same as `size`.
    # Not in the paper; torchvision prepares pictures for ConvNeXt-Base in this way.
    resize: PositiveInt | None = 232

    # Whether both sides are resized to `resize`, so that a picture loses its proportions and not
    # its edges. Not in the paper.
    squash: bool = False

    # H = W in pixels, after the cut.
    size: Annotated[int, Field(ge=32)] = 224

    @model_validator(mode="after")
    def _check_crop(self) -> "Pictures":
        if self.resize is not None and self.resize < self.size:
            message = f"{self.size} is above pictures.resize {self.resize}, which it is cut out of"
            raise FieldError("pictures.size", message)
        return self


class Encoder(Section):
    """The settings of an encoder that both branches have."""

    # The name of a backbone, or a list of names whose encodings are put side by side.
    backbone: Backbones

    # Pretrained weights: a file, a folder or hf-hub:OWNER/NAME@COMMIT; none: random weights. A list
    # for a list of backbones. The paper starts from published weights, which have to be given here
    # because they are not part of this package.
    weights: Weights = None

    # Which part of each backbone stays as it is: none, all, or the first N stages (a transformer's
    # blocks). Not in the paper, which says only that part of the published weights is used.
    freeze: Freezing = "none"

    # A file of encodings that were computed elsewhere, in the encoder's place: an .npz with `clips`
    # (N names) and `encodings`, (N,D) or (N,T,D). The settings of the encoder are then inactive.
    encodings: EncodingsFile | None = None

    @property
    def backbones(self) -> tuple[str, ...]:
        """The names of all backbones."""
        return self.backbone if isinstance(self.backbone, tuple) else (self.backbone,)

    @property
    def sources(self) -> tuple[str | None, ...]:
        """The source of weights of each backbone; None: random weights."""
        if self.weights is None:
            return (None,) * len(self.backbones)
        return self.weights if isinstance(self.weights, tuple) else (self.weights,)

    @model_validator(mode="after")
    def _check_sources(self) -> "Encoder":
        if len(self.sources) != len(self.backbones):
            counts = f"{len(self.sources)} weights for {len(self.backbones)} backbones"
            raise ValueError(f"{counts}; as many of both, null where weights are random")
        return self


class Audio(Encoder):
    """The audio branch (Section II-A): log-mel (B,T,128) -> embedding (B,D) -> event logits (B,E).

    The paper's backbone is AST, a transformer over patches of the log-mel: 12 layers, 12 heads, 768
    wide. Its encoding is the mean of its class token and its distillation token. The name of
    another image backbone of timm is allowed too; `width`, `depth`, `heads`, `patch` and `stride`
    are then inactive settings.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"encodings", "pieces", "pooling"})

    backbone: Backbones = "ast"

    width: PositiveInt = 768
    depth: PositiveInt = 12
    heads: PositiveInt = 12

    # Side of a patch and distance between patches, in mel bands and frames. Not in the paper; the
    # values of AST, whose patches overlap by 6.
    patch: PositiveInt = 16
    stride: PositiveInt = 10

    # Into how many equal pieces of time the log-mel is cut. Each has T // pieces frames and is
    # encoded on its own; the frames left over at the end are not used. With `encodings` (N,T,D) it
    # must be their T. Not in the paper.
    pieces: Annotated[int, Field(ge=1, le=1000)] = 1

    # How the encodings of the pieces become one; without effect on a log-mel in one piece.
    pooling: Pooling = "mean"

    # D. Section II-C states it: the classifier's weights are (E,1024).
    embedding: PositiveInt = 1024

    # E, the events of AudioSet.
    classes: TwoOrMore = 527

    @model_validator(mode="after")
    def _check_heads(self) -> "Audio":
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Visual(Encoder):
    """The visual branch (Section II-B): pictures (B,F,3,H,W) -> embedding (B,D) -> object logits
    (B,O).

    The paper's backbone is ConvNeXt-Base, run on each picture. Another image backbone of timm is
    allowed by its name; `depths` and `dims` are then inactive settings.
    """

    ADDED: ClassVar[frozenset[str]] = frozenset({"encodings"})

    backbone: Backbones = "convnext"

    # Blocks and channels of the four stages.
    depths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (3, 3, 27, 3)
    dims: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (128, 256, 512, 1024)

    # How the encodings of a clip's pictures become one. Not in the paper; AST averages its two
    # tokens too.
    pooling: Pooling = "mean"

    # D, which must be that of the audio branch. Section II-C states it: the classifier's weights
    # are (O,1024).
    embedding: PositiveInt = 1024

    # O, the objects of ImageNet-1K.
    classes: TwoOrMore = 1000


class Alignment(Section):
    """Contrastive event-object alignment (CEOA, Section II-C, Eq. 3 and 4)."""

    # Without it there are no e2o and o2e losses (Table II, rows 1 and 2).
    enabled: bool = True

    # K, how many of the most likely classes are compared with how many others. Table I tries 1 to
    # 30; 15 is best with lkm, and what the paper goes on with.
    k: PositiveInt = 15

    # The others are the K least likely classes (lkm), or K random ones that are not among the most
    # likely (rkm).
    mode: Literal["lkm", "rkm"] = "lkm"


class Fusion(Section):
    """How both branches lead to scene logits (B,S): semantic-based fusion (SF, Section II-D, Eq. 5)
    and its rivals.

    Every kind of fusion ends in the fusion layer of Eq. 6: linear to H, ReLU, dropout, linear to S.
    """

    # semantic: the paper's. none: the same without the attention (Table II, rows 1 and 3).
    # intermediate, decision, hybrid: what other systems do; avsc_core/model/fusion.py describes
    # them.
    kind: Literal["semantic", "none", "intermediate", "decision", "hybrid"] = "semantic"

    # h and d of Eq. 5.
    heads: PositiveInt = 8
    head_width: PositiveInt = 64

    # What the attention compares. The paper's y of a branch are probabilities; logits are the other
    # reading.
    tokens: Literal["probability", "logit"] = "probability"

    # Whether the attention's projections have a bias. Eq. 5 has none.
    bias: bool = False

    # Dropout on what the attention adds. The paper uses dropout without saying where or how much;
    # 0.1 together with `bias` is the reading in which SF is a layer of the Transformer.
    attention_dropout: Share = 0.0

    # How `decision` and `hybrid` weigh their scores: equally, with a learned weight for each score,
    # or with a learned weight for each score and scene.
    decision: Literal["mean", "weighted", "class-wise"] = "mean"

    # H, the width of the fusion layer. Not in the paper; as wide as the embeddings.
    hidden: PositiveInt = 1024

    # Dropout in the fusion layer. Not in the paper, which uses dropout without a number; 0.1 is the
    # usual value.
    dropout: Share = 0.1

    # Whether the scene logits go through a ReLU, as the text on Eq. 6 can be read. A scene whose
    # logit is negative on every clip then stops learning.
    literal_relu: bool = False


class LossWeights(Section):
    """lambda_1 to lambda_5 of Eq. 7, one for each loss. The paper's default is 1; Table III
    compares others.
    """

    event: Weight = 1.0
    object: Weight = 1.0
    e2o: Weight = 1.0
    o2e: Weight = 1.0
    scene: Weight = 1.0


class Losses(Section):
    """How the event loss and the object loss (Eq. 1 and 2) are reduced over classes, and what the
    scene loss has beyond the paper's cross-entropy.
    """

    ADDED = frozenset({"label_smoothing", "class_weights", "coarse"})

    # The equations sum. `mean` with weight lambda is the same as `sum` with lambda / C for C
    # classes.
    bce_reduction: Literal["sum", "mean"] = "sum"

    # The rest is not in the paper; systems of Table V have it. Share of the scene's target that is
    # spread evenly over all scenes.
    label_smoothing: Share = 0.0

    # balanced: a scene with n_c of the n training clips counts n / (S n_c) times in the scene loss.
    class_weights: Literal["none", "balanced"] = "none"

    # Weight of a second scene loss, of a head that tells indoor, outdoor and transportation apart
    # (avsc_core/labels.py); 0: no such head. Both heads then decide together: the probability of a
    # scene is multiplied by that of its coarse class. Only for TAU's ten scenes.
    coarse: Weight = 0.0


class Training(Section):
    """The optimisation (Section III-A): AdamW at a learning rate of 5e-6, batches of 16 clips, 100
    epochs.
    """

    ADDED = frozenset(
        {
            "schedule",
            "step_epochs",
            "step_factor",
            "layer_decay",
            "fusion_multiplier",
            "clip_norm",
            "ema",
            "heads_first",
            "second_stage",
        }
    )

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 16
    learning_rate: Fraction = 5e-6

    # Learning rate of the new layers, as a multiple of the backbones'. The paper states one rate
    # for all.
    head_multiplier: PositiveFloat = 1.0

    # Not in the paper; the default of AdamW.
    weight_decay: Weight = 0.01

    # Number format of the model's matrix products; losses are always computed in float32. tf32:
    # float32 whose products a GPU rounds to 10 bits, several times faster. Not in the paper.
    precision: Literal["float32", "tf32", "bf16", "fp16"] = "float32"

    # Share of all steps in which the learning rate rises linearly from 0. Not in the paper, so
    # none.
    warmup: Share = 0.0

    # The rest is not in the paper either, and off. The learning rate after the warm-up. cosine: it
    # falls along half a cosine, to 0 at the end. step: every `step_epochs` epochs it is multiplied
    # by `step_factor`.
    schedule: Literal["constant", "cosine", "step"] = "constant"
    step_epochs: PositiveInt = 30
    step_factor: Factor = 0.1

    # Learning rate of a backbone's layer, as a multiple of that of the layer after it; 1: the same
    # for all.
    layer_decay: Factor = 1.0

    # Learning rate of the fusion, as a multiple of the backbones'; none: `head_multiplier`.
    fusion_multiplier: PositiveFloat | None = None

    # Largest norm of the gradient of all parameters together; larger ones are scaled down to it.
    # 0: no limit.
    clip_norm: Weight = 0.0

    # Decay, at every step, of an exponential moving average of the weights, such as 0.999. The
    # averaged model is then validated, predicts and is saved. It begins as the initial weights and
    # is an average over about 1 / (1 - decay) steps, which must be few of all steps. 0: none.
    ema: Share = 0.0

    # In how many epochs, from the first on, only the new layers learn. Everything learns after
    # them, at `second_stage` times all learning rates; without such epochs it has no effect.
    heads_first: Annotated[int, Field(ge=0, le=10_000)] = 0
    second_stage: PositiveFloat = 1.0


class Augmentation(Section):
    """Random changes to training clips (avsc_core/data/augment.py). The paper uses none, so all are
    off.
    """

    ADDED = frozenset({"time_shift", "noise", "speed"})

    # Sound: each clip becomes faster or slower by up to this share of its tempo.
    speed: Share = 0.0

    # Sound: each clip is rolled in time, either way, by up to this share of its length.
    time_shift: Share = 0.0

    # Sound: each clip becomes louder or quieter by up to this many dB.
    gain_db: Weight = 0.0

    # Sound: normal noise is added to each value of a clip's log-mel, with a deviation of up to this
    # many dB.
    noise: Weight = 0.0

    # Sound: SpecAugment hides a part of the log-mel; the widest part, as a share of its frames and
    # of its bands.
    time_mask: Share = 0.0
    mel_mask: Share = 0.0

    # Pictures: probability that a clip is mirrored.
    flip: Annotated[float, Field(ge=0, le=1)] = 0.0

    # Pictures: largest share of each side that is cut off.
    crop: Share = 0.0

    # Pictures: how many operations RandAugment applies to a clip.
    rand_augment: NonNegativeInt = 0

    # Both: alpha of the Beta distribution from which mixup draws the shares of two clips; 0: no
    # mixup.
    mixup: Weight = 0.0

    # Whether sound and pictures of a clip are mixed with the same other clip (joint), or each with
    # its own (single).
    mixup_partners: Literal["joint", "single"] = "joint"


# The settings that change the clips of one branch, before its encoder. Mixup is not among them: it
# mixes what the branch gets, clips or encodings.
CHANGES_OF = {
    "audio": ("speed", "time_shift", "gain_db", "noise", "time_mask", "mel_mask"),
    "visual": ("flip", "crop", "rand_augment"),
}


class PseudoLabels(Section):
    """How the teachers' outputs become labels of 0 and 1 (Section III-A).

    Used for data sets whose label file `avsc-core pseudo` wrote. The paper states the two
    thresholds.
    """

    # A class is positive from this probability on; an object's 0.9216 is a logit of 2.464.
    event_threshold: Fraction = 0.0365
    object_threshold: Fraction = 0.9216

    # From ConvNeXt's logits to probabilities. Not in the paper; a softmax over 1000 classes hardly
    # ever reaches 0.9216.
    object_activation: Literal["sigmoid", "softmax"] = "sigmoid"

    # From the probabilities of a clip's pictures to those of the clip. Not in the paper; with `max`
    # an object counts when one picture shows it.
    object_pooling: Literal["max", "mean"] = "max"


class Compute(Section):
    """Settings that trade memory for time. Results stay the same up to rounding, so they are not in
    a trial's key.
    """

    # Memory format of the pictures.
    channels_last: bool = False

    # Compile both backbones with torch.compile.
    compile: bool = False

    # Compute the backbones' activations a second time in the backward pass instead of keeping them.
    checkpointing: bool = False

    # For how many clips at a time a backbone holds activations; none: for the whole batch.
    micro_batch: PositiveInt | None = None

    # A trial writes its checkpoint at most this often; small models more often, because it costs
    # them nothing. 0: after every epoch.
    checkpoint_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0


class Split(Section):
    """Which training clips are held out for validation, by whole locations.

    The paper states the split into training and test (the challenge's own) and no validation. Here
    every choice is made on validation clips, and the test split is read once, at the end.
    """

    # share: a random share of each scene's locations. fold: one of several equal parts of them.
    # baseline: the rule of the challenge's own system.
    rule: Literal["share", "fold", "baseline"] = "share"

    # For share: how much of each scene's locations; for baseline: how much of each scene's clips.
    validation: Fraction = 0.1

    # For fold: which part, counted from 0, and how many parts there are.
    fold: NonNegativeInt = 0
    folds: TwoOrMore = 5

    # For share and fold; baseline has a fixed seed of its own.
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _check_fold(self) -> "Split":
        if self.fold >= self.folds:
            message = f"{self.fold} is not a fold of {self.folds}; allowed: 0 to {self.folds - 1}"
            raise FieldError("split.fold", message)
        return self


class Config(Section):
    """One trial: everything that decides its numbers, and where to run it."""

    # Which branches the model has. Table IV compares the three.
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

    # S; the data set has their names.
    scenes: TwoOrMore = 10

    # Of the initial weights, the order of clips, dropout, augmentation and rkm.
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    # auto: a GPU when there is one.
    device: Literal["auto", "cpu", "cuda"] = "auto"

    # Processes that compute features; 0: one per core.
    workers: NonNegativeInt = 0

    @property
    def k_max(self) -> int:
        """The largest K: half of the smaller label set, so that the most and the least likely
        classes differ.
        """
        return min(self.audio.classes, self.visual.classes) // 2

    @model_validator(mode="after")
    def _check_sections_together(self) -> "Config":
        if self.alignment.k > self.k_max:
            message = f"{self.alignment.k} is above half the classes; allowed: 1 to {self.k_max}"
            raise FieldError("alignment.k", message)

        if self.audio.embedding != self.visual.embedding:
            message = "must equal audio.embedding: Eq. 3 multiplies the two classifiers"
            raise FieldError("visual.embedding", message)

        shortest = self.audio.patch if "ast" in self.audio.backbones else 1
        longest = self.log_mel.frames // shortest
        if self.audio.pieces > longest and self.audio.encodings is None:
            frames = f"pieces of {self.log_mel.frames} frames have less than {shortest}"
            raise FieldError("audio.pieces", f"{self.audio.pieces} {frames}; at most {longest}")

        for branch in self.modality.split("-"):
            encoder = getattr(self, branch)
            changed = [name for name in CHANGES_OF[branch] if getattr(self.augmentation, name)]
            if changed and (encoder.freeze == "all" or encoder.encodings):
                once = "encodings from elsewhere" if encoder.encodings else "frozen encodings"
                message = f"{once} ({branch}) are computed once, of clips as they are"
                raise FieldError(f"augmentation.{changed[0]}", message)

        if self.losses.coarse and self.scenes != 10:
            message = f"the coarse classes are those of TAU's 10 scenes, not of {self.scenes}"
            raise FieldError("losses.coarse", message)

        if not any(self.loss_weights.model_dump().values()):
            raise FieldError("loss_weights", "all five are 0: nothing to learn")
        return self
