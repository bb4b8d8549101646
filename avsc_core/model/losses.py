"""The five losses and their weighted sum (Eq. 1 to 4 and Eq. 7).

    event, object   binary cross-entropy of a branch's logits against its labels (Eq. 1 and 2)
    e2o, o2e        contrastive event-object alignment, CEOA (Eq. 3 and 4)
    scene           cross-entropy of the scene logits

    total = lambda_1 event + lambda_2 object + lambda_3 e2o + lambda_4 o2e + lambda_5 scene   Eq. 7

A loss whose branch is not in the model, or whose module is off, is left out of the sum.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from avsc_core.config import Config
from avsc_core.model.alignment import alignment_losses
from avsc_core.model.network import AudioVisualNet, Outputs

# The arguments are those of `compute` below; it returns scalars by name.
Losses = Callable[
    [AudioVisualNet, Outputs, Tensor, Tensor, Tensor, torch.Generator | None], dict[str, Tensor]
]


def build_losses(config: Config) -> Losses:
    """Build a function that computes the unweighted losses of a configuration, and `total`."""
    weights = config.loss_weights.model_dump()
    alignment = config.alignment
    aligned = alignment.enabled and (weights["e2o"] or weights["o2e"])
    per_class = config.losses.bce_reduction == "mean"

    def compute(
        model: AudioVisualNet,
        outputs: Outputs,
        events: Tensor,  # (B,E)
        objects: Tensor,  # (B,O)
        scenes: Tensor,  # (B,), or probabilities (B,S)
        generator: torch.Generator | None = None,  # of the draws of RKM
    ) -> dict[str, Tensor]:
        event_logits = outputs.event_logits
        object_logits = outputs.object_logits
        losses = {}

        # Eq. 1 and 2.
        if event_logits is not None:
            losses["event"] = tagging_loss(event_logits, events, per_class)
        if object_logits is not None:
            losses["object"] = tagging_loss(object_logits, objects, per_class)

        # Eq. 3 and 4. Logits serve as probabilities: a sigmoid would not change their order.
        if aligned and event_logits is not None and object_logits is not None:
            event_weight = model.event_classifier_weight  # (E,D)
            object_weight = model.object_classifier_weight  # (O,D)
            assert event_weight is not None
            assert object_weight is not None
            losses["e2o"], losses["o2e"] = alignment_losses(
                event_weight,
                object_weight,
                event_logits,
                object_logits,
                k=alignment.k,
                mode=alignment.mode,
                generator=generator,
            )

        # Eq. 7.
        losses["scene"] = cross_entropy(outputs.scene_logits.float(), scenes)
        total = torch.zeros_like(losses["scene"])
        for name, loss in losses.items():
            total = total + weights[name] * loss
        losses["total"] = total
        return losses

    return compute


def tagging_loss(
    logits: Tensor,  # (B,C)
    labels: Tensor,  # (B,C), from 0 to 1
    per_class: bool,
) -> Tensor:
    """Compute Eq. 1 or 2: binary cross-entropy, summed over classes, averaged over clips; a scalar.

    With `per_class` it is averaged over classes as well, which divides the loss by C.
    """
    losses = binary_cross_entropy_with_logits(
        logits.float(), labels.float(), reduction="none"
    )  # (B,C)
    by_clip = losses.mean(1) if per_class else losses.sum(1)  # (B,)
    return by_clip.mean()
