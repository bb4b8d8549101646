"""Contrastive event-object alignment, CEOA (Eq. 3 and Eq. 4).

CEOA pulls together the classifier rows of events and objects that occur in the same clip. The K
likeliest events and the K likeliest objects of a clip are its positives. K other classes of each
kind are its negatives: the K least likely ones (mode `lkm`), or K random ones that are not
positives (mode `rkm`). With the classifier rows P_e, N_e of these events and P_o, N_o of these
objects, all (K,D),

    loss_e2o = - ln mean_ij sigmoid(P_e P_o^T - P_e N_o^T)_ij        Eq. 3
    loss_o2e = - ln mean_ij sigmoid(P_o P_e^T - P_o N_e^T)_ij        Eq. 4

averaged over the batch. Positives are ordered from the highest probability down and negatives of
`lkm` from the lowest up, so entry (i, j) compares positive j with negative j. The gradient reaches
the rows, but not the probabilities that select them.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

MODES = ("lkm", "rkm")


def alignment_losses(
    event_weight: Tensor,  # (E,D)
    object_weight: Tensor,  # (O,D)
    event_prob: Tensor,  # (B,E)
    object_prob: Tensor,  # (B,O)
    k: int,
    mode: str,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the losses of CEOA, Eq. 3 and Eq. 4, averaged over a batch of clips.

    Args:
        event_weight: Weight of the event classifier, one row for each event. Shape: (E,D)
        object_weight: Weight of the object classifier. Shape: (O,D)
        event_prob: Probabilities of the events in each clip, or logits: only their order counts.
            Shape: (B,E)
        object_prob: The same for objects. Shape: (B,O)
        k: Number of positives and of negatives, from 1 to half of the smaller label set.
        mode: How negatives are chosen: `lkm` or `rkm`.
        generator: Source of the random draws of `rkm`, first for objects, then for events.

    Returns:
        loss_e2o and loss_o2e, each a scalar.

    Raises:
        ValueError: If `k` is out of range or `mode` is unknown.

    Example:
        >>> import torch
        >>> from avsc_core.model.alignment import alignment_losses
        >>> event_weight = torch.randn(527, 1024)
        >>> object_weight = torch.randn(1000, 1024)
        >>> event_prob = torch.rand(8, 527)
        >>> object_prob = torch.rand(8, 1000)
        >>> e2o, o2e = alignment_losses(
        ...     event_weight, object_weight, event_prob, object_prob, k=10, mode="lkm"
        ... )
        >>> e2o.shape
        torch.Size([])
    """
    classes = min(event_prob.shape[1], object_prob.shape[1])
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: one of {', '.join(MODES)}")
    if not 1 <= k <= classes // 2:
        raise ValueError(f"k {k}: 1 to {classes // 2}, half of the {classes} classes")

    # Objects come first: the order of the two draws of `rkm` is part of a trial's numbers.
    object_positives, object_negatives = pick_classes(object_prob, k, mode, generator)  # (B,K)
    event_positives, event_negatives = pick_classes(event_prob, k, mode, generator)  # (B,K)

    p_e = event_weight[event_positives]  # (B,K,D)
    n_e = event_weight[event_negatives]  # (B,K,D)
    p_o = object_weight[object_positives]  # (B,K,D)
    n_o = object_weight[object_negatives]  # (B,K,D)
    loss_e2o = _contrast(p_e, p_o - n_o)  # Eq. 3
    loss_o2e = _contrast(p_o, p_e - n_e)  # Eq. 4
    return loss_e2o, loss_o2e


def pick_classes(
    probability: Tensor,  # (B,C)
    k: int,
    mode: str,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Pick the positive (B,K) and the negative (B,K) classes of each clip.

    Of classes with equal probabilities, the one with the lower index comes first.
    """
    probability = probability.detach()
    positives = probability.argsort(dim=1, descending=True, stable=True)[:, :k]
    if mode == "lkm":
        return positives, probability.argsort(dim=1, stable=True)[:, :k]

    # The K largest of uniform draws are a uniform choice of K classes without replacement. The
    # positives get a draw below all others, so they are never among the K largest.
    device = generator.device if generator is not None else probability.device
    draws = torch.rand(probability.shape, generator=generator, device=device)
    draws = draws.to(probability.device).scatter(1, positives, -1.0)
    return positives, draws.topk(k, dim=1).indices


def _contrast(
    anchor: Tensor,  # (B,K,D): P
    difference: Tensor,  # (B,K,D): P' - N
) -> Tensor:
    """Compute - ln mean_ij sigmoid(P P'^T - P N^T)_ij, averaged over clips: a scalar.

    The two products are one, P (P' - N)^T. The logarithm of the mean is computed from logarithms,
    so that it cannot underflow.
    """
    # An exponent in 16 bits would be too coarse, so autocast is off for this product.
    with torch.autocast(anchor.device.type, enabled=False):
        scores = anchor @ difference.mT  # (B,K,K)
    log_sum = logsigmoid(scores).flatten(1).logsumexp(1)  # (B,)
    log_mean = log_sum - 2 * math.log(scores.shape[1])  # (B,)
    return -log_mean.mean()
