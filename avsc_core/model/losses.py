"""The five losses and their weighted sum (Eq. 1 to 4 and Eq. 7).

    event, object   binary cross-entropy of a branch's logits against its labels (Eq. 1 and 2)
    e2o, o2e        contrastive event-object alignment, CEOA (Eq. 3 and 4)
    scene           cross-entropy of the scene logits

    total = lambda_1 event + lambda_2 object + lambda_3 e2o + lambda_4 o2e + lambda_5 scene   Eq. 7

A loss whose branch is not in the model, or whose module is off, is left out of the sum.

Not in the paper, and off: smoothed labels and class weights of the scene loss, and a sixth loss,
`coarse`, the cross-entropy of a head that tells indoor, outdoor and transportation apart.
"""

from collections.abc import Callable

import torch
from numpy import ndarray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from avsc_core.config import Config
from avsc_core.labels import COARSE_CLASSES, COARSE_NUMBERS
from avsc_core.model.alignment import alignment_losses
from avsc_core.model.network import AudioVisualNet, Outputs

# The arguments are those of `compute` below; it returns scalars by name.
Losses = Callable[
    [AudioVisualNet, Outputs, Tensor, Tensor, Tensor, torch.Generator | None], dict[str, Tensor]
]


def build_losses(
    config: Config,
    class_weights: Tensor | None = None,  # (S,), of the scene loss
) -> Losses:
    """Build a function that computes the unweighted losses of a configuration, and `total`."""
    weights = {**config.loss_weights.model_dump(), "coarse": config.losses.coarse}
    smoothing = config.losses.label_smoothing
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

        losses["scene"] = scene_loss(outputs.scene_logits, scenes, class_weights, smoothing)
        if outputs.coarse_logits is not None:
            coarse = coarsen(scenes, len(outputs.scene_logits[0]))  # (B,3)
            losses["coarse"] = cross_entropy(outputs.coarse_logits.float(), coarse)

        # Eq. 7.
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


def scene_loss(
    logits: Tensor,  # (B,S)
    scenes: Tensor,  # (B,), or probabilities (B,S) of mixed clips
    class_weights: Tensor | None,  # (S,)
    smoothing: float,
) -> Tensor:
    """Compute the cross-entropy of scenes, averaged over clips; a scalar.

    A target t (S,), of 0 and 1 or mixed, becomes (1 - smoothing) t + smoothing / S, and the loss of
    a clip is the sum of -w_s t_s ln p_s over scenes: a mixed clip has the mixed weight of its
    scenes. The mean over clips is not divided by their weights, whose mean over the training clips
    is 1, so that the same clip counts as much in every batch.
    """
    # With weights, torch treats numbers of classes in another way than probabilities.
    if class_weights is not None and not scenes.is_floating_point():
        scenes = one_hot(scenes, logits.shape[1]).float()
    return cross_entropy(logits.float(), scenes, class_weights, label_smoothing=smoothing)


def balance_classes(scenes: ndarray, count: int) -> Tensor:
    """Return the weight n / (S n_c) of each of S = `count` scenes: (S,).

    n_c of the n training clips `scenes` (n,) are of scene c. A scene without clips is not a target.
    """
    clips = torch.bincount(torch.from_numpy(scenes), minlength=count)  # (S,)
    return len(scenes) / (count * clips.clamp_min(1))


def coarsen(scenes: Tensor, count: int) -> Tensor:
    """Turn scenes (B,), or targets (B,S) with S = `count`, into targets (B,3) of coarse classes."""
    targets = scenes if scenes.is_floating_point() else one_hot(scenes, count).float()
    coarse = torch.tensor(COARSE_NUMBERS, device=scenes.device)  # (S,)
    return targets @ one_hot(coarse, len(COARSE_CLASSES)).to(targets.dtype)
