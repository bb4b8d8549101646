"""The five losses and their weighted sum (Eq. 1 to 4 and Eq. 7).

event and object: binary cross-entropy of each branch's logits against its labels, summed over classes (Eq. 1, 2);
e2o and o2e: CEOA (Eq. 3, 4); scene: cross-entropy of the scene logits; total = lambda_1 event + lambda_2 object +
lambda_3 e2o + lambda_4 o2e + lambda_5 scene. A term whose branch or module is absent does not exist.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from avsc_core.config import Config
from avsc_core.model.alignment import alignment_losses
from avsc_core.model.network import AudioVisualNet, Outputs

# (model, outputs, events (B,E), objects (B,O), scenes (B,), generator of RKM's draws) -> scalars by name
Losses = Callable[
    [AudioVisualNet, Outputs, Tensor, Tensor, Tensor, torch.Generator | None], dict[str, Tensor]
]


def build_losses(config: Config) -> Losses:
    """The losses of a configuration: every unweighted term that exists, and `total`."""
    weights = config.loss_weights.model_dump()
    alignment, per_class = config.alignment, config.losses.bce_reduction == "mean"
    aligned = alignment.enabled and (weights["e2o"] or weights["o2e"])

    def compute(
        model: AudioVisualNet,
        outputs: Outputs,
        events: Tensor,  # (B,E)
        objects: Tensor,  # (B,O)
        scenes: Tensor,  # (B,), or targets (B,S)
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        terms = {}
        if outputs.event_logits is not None:
            terms["event"] = tagging_loss(outputs.event_logits, events, per_class)
        if outputs.object_logits is not None:
            terms["object"] = tagging_loss(outputs.object_logits, objects, per_class)
        if aligned and outputs.event_logits is not None and outputs.object_logits is not None:
            event_rows, object_rows = (
                model.event_classifier_weight,
                model.object_classifier_weight,
            )  # (E,D), (O,D)
            assert event_rows is not None
            assert object_rows is not None
            logits = (
                outputs.event_logits,
                outputs.object_logits,
            )  # a sigmoid would not change their order
            terms["e2o"], terms["o2e"] = alignment_losses(
                event_rows, object_rows, *logits, alignment.k, alignment.mode, generator
            )
        terms["scene"] = cross_entropy(outputs.scene_logits.float(), scenes)
        terms["total"] = sum(
            (weights[name] * term for name, term in terms.items()), torch.zeros_like(terms["scene"])
        )
        return terms

    return compute


def tagging_loss(logits: Tensor, labels: Tensor, per_class: bool) -> Tensor:
    """Eq. 1 and 2: (B,C) logits and labels -> a scalar, the mean over clips of the sum (or mean) over classes."""
    costs = binary_cross_entropy_with_logits(
        logits.float(), labels.float(), reduction="none"
    )  # (B,C)
    return (costs.mean(1) if per_class else costs.sum(1)).mean()
