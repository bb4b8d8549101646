"""What a study file can name under `search:`: dimensions, groups of dimensions, and samplers.

A dimension is a setting of the configuration (a field of avsc_core/config.py) with the values that
it may take. To add one, add a line to CATALOGUE. A dimension that has an effect only when other
settings have certain values says so in CONDITIONS (inactive.py explains what follows from that).
GROUPS are names for several dimensions at once.
"""

from typing import Any, get_args

from avsc_core.resolve import list_fields
from search_spaces.domains import Choice, Domain, Float, Int

# As in sampling.py, which loads Optuna; these names are checked without it.
SAMPLER_NAMES = ("tpe", "tpe_multivariate", "gp", "cmaes", "nsga2", "qmc", "random", "brute_force")
ONE_METRIC_SAMPLERS = ("cmaes",)  # cannot search for the best of two metrics
SAMPLERS_WITHOUT_MEMORY = ("qmc", "random", "brute_force")  # learn nothing from how trials end


def make_choice(key: str) -> Choice:
    """Make the choice of all values that the type of setting `key`, a Literal, names."""
    return Choice(get_args(list_fields()[key].annotation))


CATALOGUE: dict[str, Domain] = {
    # lambda_1 .. lambda_5 of Eq. 7; mean(lambda) equals sum(lambda / classes), so they span orders
    # of magnitude
    "loss_weights.event": Float(0.01, 100.0, log=True),
    "loss_weights.object": Float(0.01, 100.0, log=True),
    "loss_weights.e2o": Float(0.01, 100.0, log=True),
    "loss_weights.o2e": Float(0.01, 100.0, log=True),
    "loss_weights.scene": Float(0.01, 100.0, log=True),
    # contrastive alignment (Table I)
    "alignment.k": Int(1, 500),
    "alignment.mode": make_choice("alignment.mode"),
    # modules (Tables II and IV)
    "alignment.enabled": Choice((True, False)),
    "fusion.kind": make_choice("fusion.kind"),
    "fusion.decision": make_choice("fusion.decision"),
    "modality": make_choice("modality"),
    # training
    "training.learning_rate": Float(1e-7, 1e-1, log=True),
    "training.head_multiplier": Float(1.0, 1000.0, log=True),
    "training.weight_decay": Float(1e-5, 1.0, log=True),
    "training.batch_size": Choice((4, 8, 16, 32, 64)),
    "training.warmup": Float(0.0, 0.5),
    "training.schedule": make_choice("training.schedule"),
    "training.step_epochs": Int(1, 100),
    "training.step_factor": Float(0.01, 1.0, log=True),
    "training.layer_decay": Float(0.3, 1.0),
    "training.fusion_multiplier": Float(0.01, 10000.0, log=True),
    "training.clip_norm": Float(0.01, 100.0, log=True),
    "training.ema": Choice((0.0, 0.9, 0.99, 0.999, 0.9999)),
    "training.heads_first": Int(0, 50),
    "training.second_stage": Float(0.001, 1.0, log=True),
    "fusion.dropout": Float(0.0, 0.9),
    "augmentation.gain_db": Float(0.0, 20.0),
    "augmentation.speed": Float(0.0, 0.5),
    "augmentation.time_shift": Float(0.0, 0.9),
    "augmentation.noise": Float(0.0, 20.0),
    "augmentation.time_mask": Float(0.0, 0.9),
    "augmentation.mel_mask": Float(0.0, 0.9),
    "augmentation.flip": Float(0.0, 1.0),
    "augmentation.crop": Float(0.0, 0.9),
    "augmentation.rand_augment": Int(0, 4),
    "augmentation.mixup": Float(0.0, 2.0),
    "augmentation.mixup_partners": make_choice("augmentation.mixup_partners"),
    "fusion.hidden": Int(16, 4096, log=True),
    "fusion.heads": Int(1, 32, log=True),
    "fusion.attention_dropout": Float(0.0, 0.9),
    "audio.pieces": Choice((1, 2, 5, 10)),
    "audio.pooling": make_choice("audio.pooling"),
    "audio.freeze": Choice(("none", "all", 1, 2, 4, 8)),
    "visual.freeze": Choice(("none", "all", 1, 2, 3)),
    "training.precision": make_choice("training.precision"),
    "losses.label_smoothing": Float(0.0, 0.5),
    "losses.class_weights": make_choice("losses.class_weights"),
    "losses.coarse": Float(0.0, 100.0),
    # readings: what the paper leaves open
    "losses.bce_reduction": make_choice("losses.bce_reduction"),
    "visual.pooling": make_choice("visual.pooling"),
    "log_mel.window": make_choice("log_mel.window"),
    "log_mel.normalise": make_choice("log_mel.normalise"),
    "fusion.bias": Choice((False, True)),
    "pseudo.event_threshold": Float(0.001, 0.999),
    "pseudo.object_threshold": Float(0.001, 0.999),
    "pseudo.object_activation": make_choice("pseudo.object_activation"),
    "pseudo.object_pooling": make_choice("pseudo.object_pooling"),
    "fusion.tokens": make_choice("fusion.tokens"),
    "fusion.literal_relu": Choice((False, True)),
}

# What a setting needs to be active: other settings, and the values that each of them may have.
Needs = dict[str, tuple[Any, ...] | range]

NEEDS_BOTH: Needs = {"modality": ("audio-visual",)}
NEEDS_AUDIO: Needs = {"modality": ("audio-visual", "audio")}
NEEDS_VISUAL: Needs = {"modality": ("audio-visual", "visual")}
# Encodings computed elsewhere take the encoder's place, with all that prepares its input.
NEEDS_AUDIO_ENCODER: Needs = {"audio.encodings": (None,), **NEEDS_AUDIO}
NEEDS_VISUAL_ENCODER: Needs = {"visual.encodings": (None,), **NEEDS_VISUAL}
NEEDS_ALIGNMENT: Needs = {"alignment.enabled": (True,), **NEEDS_BOTH}
NEEDS_ATTENTION: Needs = {"fusion.kind": ("semantic",), **NEEDS_BOTH}
NEEDS_DECISION: Needs = {"fusion.kind": ("decision", "hybrid"), **NEEDS_BOTH}

AUDIO_ENCODER_FIELDS = (
    "audio.backbone",
    "audio.weights",
    "audio.width",
    "audio.depth",
    "audio.heads",
    "audio.patch",
    "audio.stride",
)
VISUAL_ENCODER_FIELDS = ("visual.backbone", "visual.weights", "visual.depths", "visual.dims")

CONDITIONS: dict[str, Needs] = {
    "alignment.enabled": NEEDS_BOTH,
    "alignment.k": NEEDS_ALIGNMENT,
    "alignment.mode": NEEDS_ALIGNMENT,
    "loss_weights.e2o": NEEDS_ALIGNMENT,
    "loss_weights.o2e": NEEDS_ALIGNMENT,
    "loss_weights.event": NEEDS_AUDIO,
    "loss_weights.object": NEEDS_VISUAL,
    "fusion.kind": NEEDS_BOTH,
    "fusion.heads": NEEDS_ATTENTION,
    "fusion.bias": NEEDS_ATTENTION,
    "fusion.attention_dropout": NEEDS_ATTENTION,
    "fusion.decision": NEEDS_DECISION,
    "audio.freeze": NEEDS_AUDIO_ENCODER,
    "log_mel.window": NEEDS_AUDIO_ENCODER,
    "log_mel.normalise": NEEDS_AUDIO_ENCODER,
    "training.step_epochs": {"training.schedule": ("step",)},
    "training.step_factor": {"training.schedule": ("step",)},
    "training.second_stage": {"training.heads_first": range(1, 10_001)},
    "augmentation.speed": NEEDS_AUDIO_ENCODER,
    "augmentation.time_shift": NEEDS_AUDIO_ENCODER,
    "augmentation.noise": NEEDS_AUDIO_ENCODER,
    "augmentation.gain_db": NEEDS_AUDIO_ENCODER,
    "augmentation.time_mask": NEEDS_AUDIO_ENCODER,
    "augmentation.mel_mask": NEEDS_AUDIO_ENCODER,
    "pseudo.event_threshold": NEEDS_AUDIO,
    "visual.freeze": NEEDS_VISUAL_ENCODER,
    "visual.pooling": NEEDS_VISUAL,
    "augmentation.flip": NEEDS_VISUAL_ENCODER,
    "augmentation.crop": NEEDS_VISUAL_ENCODER,
    "augmentation.rand_augment": NEEDS_VISUAL_ENCODER,
    "pseudo.object_threshold": NEEDS_VISUAL,
    "pseudo.object_activation": NEEDS_VISUAL,
    "pseudo.object_pooling": NEEDS_VISUAL,
    "audio.encodings": NEEDS_AUDIO,
    "visual.encodings": NEEDS_VISUAL,
    "audio.pieces": NEEDS_AUDIO,
    "audio.pooling": {"audio.pieces": range(2, 1001), **NEEDS_AUDIO},
    "augmentation.mixup_partners": NEEDS_BOTH,  # one modality alone has one partner anyway
    # These are no dimensions. Without a branch they keep their values, as they always did.
    **{key: {"audio.encodings": (None,)} for key in AUDIO_ENCODER_FIELDS},
    **{key: {"visual.encodings": (None,)} for key in VISUAL_ENCODER_FIELDS},
}

# The value of an inactive setting, where that is not its default: without CEOA, lambda_3 and
# lambda_4 are 0.
INACTIVE_VALUES: dict[str, Any] = {
    "alignment.k": 1,
    "loss_weights.e2o": 0.0,
    "loss_weights.o2e": 0.0,
}

GROUPS: dict[str, tuple[str, ...]] = {
    "contrast": ("alignment.k", "alignment.mode"),
    "loss_weights": tuple(key for key in CATALOGUE if key.startswith("loss_weights.")),
    "modules": ("alignment.enabled", "fusion.kind"),
    "training": (
        "training.learning_rate",
        "training.head_multiplier",
        "training.weight_decay",
        "training.batch_size",
    ),
    "readings": (
        "losses.bce_reduction",
        "visual.pooling",
        "log_mel.window",
        "log_mel.normalise",
        "fusion.tokens",
        "fusion.literal_relu",
    ),
}
