"""Contrastive event-object alignment, CEOA (Eq. 3 and Eq. 4): pulls the classifier rows of classes that occur together.

A clip's K likeliest events and objects are its positives. K other classes are its negatives: the K least likely ones
(`lkm`) or K random ones from outside the positives (`rkm`). With P_e, P_o, N_e, N_o (K,D) the rows of the classifiers,

    loss_e2o = - ln mean_ij sigmoid(P_e P_o^T - P_e N_o^T)_ij        Eq. 3
    loss_o2e = - ln mean_ij sigmoid(P_o P_e^T - P_o N_e^T)_ij        Eq. 4

averaged over the batch. Positives stand in falling order of probability and negatives lowest first, so entry (i, j)
sets the j-th positive against the j-th negative. Gradient reaches the rows, not the probabilities that pick them.
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
    """(loss_e2o, loss_o2e), each a scalar; `rkm` draws from `generator`, first objects, then events.

    Raises ValueError when K is below 1 or above half of either label set, or the mode is unknown.
    """
    classes = min(event_prob.shape[1], object_prob.shape[1])
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: one of {', '.join(MODES)}")
    if not 1 <= k <= classes // 2:
        raise ValueError(f"k {k}: 1 to {classes // 2}, half of the {classes} classes")
    object_rows = pick(object_prob, k, mode, generator)
    event_rows = pick(event_prob, k, mode, generator)
    event_positive, event_negative = (event_weight[rows] for rows in event_rows)  # (B,K,D)
    object_positive, object_negative = (object_weight[rows] for rows in object_rows)  # (B,K,D)
    e2o = _contrast(event_positive, object_positive - object_negative)
    o2e = _contrast(object_positive, event_positive - event_negative)
    return e2o, o2e


def pick(
    probability: Tensor, k: int, mode: str, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """(B,C) probabilities -> (B,K) positive and (B,K) negative classes; of equals the lower index comes first."""
    probability = probability.detach()
    positive = probability.argsort(dim=1, descending=True, stable=True)[:, :k]
    if mode == "lkm":
        return positive, probability.argsort(dim=1, stable=True)[:, :k]
    device = generator.device if generator is not None else probability.device
    draws = torch.rand(probability.shape, generator=generator, device=device).to(probability.device)
    # The K largest of uniform draws are a uniform choice without replacement; positives are put out of reach.
    return positive, draws.scatter(1, positive, -1.0).topk(k, dim=1).indices


def _contrast(anchor: Tensor, difference: Tensor) -> Tensor:
    """(B,K,D) anchors and positives minus negatives -> -ln of the mean sigmoid over K x K, averaged over the batch.

    P P'^T - P N^T = P (P' - N)^T; the logarithm of the mean is taken from logarithms, so it cannot underflow.
    """
    with torch.autocast(
        anchor.device.type, enabled=False
    ):  # a product of 16 bits would decide the exponent
        scores = anchor @ difference.mT  # (B,K,K)
    log_mean = logsigmoid(scores).flatten(1).logsumexp(1) - 2 * math.log(scores.shape[1])  # (B,)
    return -log_mean.mean()
