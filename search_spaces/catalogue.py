"""Every dimension that can be searched: a configuration key and its bounds.

To add one, add a line to CATALOGUE; the key must be a field of avsc_core/config.py. A dimension that only means
something when other settings have certain values says so in CONDITIONS. GROUPS are names for several at once.
"""

from typing import Any, get_args

from avsc_core.resolve import list_fields
from search_spaces.domains import Choice, Domain, Float, Int


def all_values_of(key: str) -> Choice:
    """Everything that a setting of named values can be."""
    return Choice(get_args(list_fields()[key].annotation))


CATALOGUE: dict[str, Domain] = {
    # lambda_1 .. lambda_5 of Eq. 7: mean(lambda) equals sum(lambda / classes), so they span orders of magnitude
    "loss_weights.event": Float(0.01, 100.0, log=True),
    "loss_weights.object": Float(0.01, 100.0, log=True),
    "loss_weights.e2o": Float(0.01, 100.0, log=True),
    "loss_weights.o2e": Float(0.01, 100.0, log=True),
    "loss_weights.scene": Float(0.01, 100.0, log=True),
    # contrastive alignment (Table I)
    "alignment.k": Int(1, 500),
    "alignment.mode": all_values_of("alignment.mode"),
    # modules (Tables II and IV)
    "alignment.enabled": Choice((True, False)),
    "fusion.kind": all_values_of("fusion.kind"),
    "fusion.decision": all_values_of("fusion.decision"),
    "modality": all_values_of("modality"),
    # training
    "training.learning_rate": Float(1e-7, 1e-1, log=True),
    "training.head_multiplier": Float(1.0, 1000.0, log=True),
    "training.weight_decay": Float(1e-5, 1.0, log=True),
    "training.batch_size": Choice((4, 8, 16, 32, 64)),
    "training.warmup": Float(0.0, 0.5),
    "fusion.dropout": Float(0.0, 0.9),
    "augmentation.gain_db": Float(0.0, 20.0),
    "augmentation.time_mask": Float(0.0, 0.9),
    "augmentation.mel_mask": Float(0.0, 0.9),
    "augmentation.flip": Float(0.0, 1.0),
    "augmentation.crop": Float(0.0, 0.9),
    "augmentation.rand_augment": Int(0, 4),
    "augmentation.mixup": Float(0.0, 2.0),
    "augmentation.mixup_partners": all_values_of("augmentation.mixup_partners"),
    "fusion.hidden": Int(16, 4096, log=True),
    "fusion.heads": Int(1, 32, log=True),
    "fusion.attention_dropout": Float(0.0, 0.9),
    "audio.freeze": Choice(("none", "all", 1, 2, 4, 8)),
    "visual.freeze": Choice(("none", "all", 1, 2, 3)),
    "training.precision": all_values_of("training.precision"),
    # readings: what the paper leaves open
    "losses.bce_reduction": all_values_of("losses.bce_reduction"),
    "visual.pooling": all_values_of("visual.pooling"),
    "log_mel.window": all_values_of("log_mel.window"),
    "log_mel.normalise": all_values_of("log_mel.normalise"),
    "fusion.bias": Choice((False, True)),
    "pseudo.event_threshold": Float(0.001, 0.999),
    "pseudo.object_threshold": Float(0.001, 0.999),
    "pseudo.object_activation": all_values_of("pseudo.object_activation"),
    "pseudo.object_pooling": all_values_of("pseudo.object_pooling"),
    "fusion.tokens": all_values_of("fusion.tokens"),
    "fusion.literal_relu": Choice((False, True)),
}

# What a setting needs to mean anything: the other keys and the values they must have.
BOTH = {"modality": ("audio-visual",)}
HEARD = {"modality": ("audio-visual", "audio")}
SEEN = {"modality": ("audio-visual", "visual")}
ALIGNED = {"alignment.enabled": (True,), **BOTH}
ATTENDED = {"fusion.kind": ("semantic",), **BOTH}
CONDITIONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "alignment.enabled": BOTH,
    "alignment.k": ALIGNED,
    "alignment.mode": ALIGNED,
    "loss_weights.e2o": ALIGNED,
    "loss_weights.o2e": ALIGNED,
    "loss_weights.event": HEARD,
    "loss_weights.object": SEEN,
    "fusion.kind": BOTH,
    "fusion.heads": ATTENDED,
    "fusion.bias": ATTENDED,
    "fusion.attention_dropout": ATTENDED,
    "fusion.decision": {"fusion.kind": ("decision", "hybrid"), **BOTH},
    "audio.freeze": HEARD,
    "log_mel.window": HEARD,
    "log_mel.normalise": HEARD,
    "augmentation.gain_db": HEARD,
    "augmentation.time_mask": HEARD,
    "augmentation.mel_mask": HEARD,
    "pseudo.event_threshold": HEARD,
    "visual.freeze": SEEN,
    "visual.pooling": SEEN,
    "augmentation.flip": SEEN,
    "augmentation.crop": SEEN,
    "augmentation.rand_augment": SEEN,
    "pseudo.object_threshold": SEEN,
    "pseudo.object_activation": SEEN,
    "pseudo.object_pooling": SEEN,
    "augmentation.mixup_partners": BOTH,  # alone, a clip's one modality has one partner
}

# What a setting that means nothing is put at, where that is not its default: without CEOA lambda_3 and lambda_4 are 0.
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
