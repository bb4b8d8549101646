"""What the paper's two modules do to a model, measured on validation after an epoch.

SF and CEOA can be in a model and do nothing: at a small learning rate what SF adds may be the same
number for every class, and the rows that CEOA pulls together may not move. An ablation of such a
module measures nothing, so the record has, where the module is in the model,

    sf_added_events, sf_added_objects    how much what SF adds (Eq. 5) varies over the classes of a
                                         clip, relative to the tokens that it is added to; the mean
                                         over clips
    event_row_norm, object_row_norm      mean norm of the rows that CEOA aligns (Eq. 3 and 4)
    event_row_moved, object_row_moved    mean distance of these rows from where they were before the
                                         training, relative to their norm then
"""

import torch
from torch import Tensor

from avsc_core.model.fusion import SemanticFusion
from avsc_core.model.network import AudioVisualNet, Outputs

SMALLEST = 1e-30  # keeps tokens that do not vary from a division by zero

Rows = dict[str, Tensor]  # event -> (E,D), object -> (O,D)


@torch.inference_mode()
def measure_fusion(model: AudioVisualNet, outputs: Outputs) -> dict[str, Tensor]:
    """Measure what SF adds for B clips, scalars by name; nothing with another fusion.

    For a clip this is the standard deviation, over classes, of what is added to its tokens, divided
    by the standard deviation of the tokens. The model must be in evaluation mode.
    """
    if not isinstance(model.fusion, SemanticFusion):
        return {}
    assert outputs.event_logits is not None
    assert outputs.object_logits is not None
    both_tokens, both_added = model.fusion.attend(outputs.event_logits, outputs.object_logits)
    measures = {}
    for name, tokens, added in zip(("events", "objects"), both_tokens, both_added, strict=True):
        spread = tokens.double().std(1).clamp_min(SMALLEST)  # (B,)
        measures[f"sf_added_{name}"] = (added.double().std(1) / spread).mean()
    return measures


def copy_rows(model: AudioVisualNet) -> Rows:
    """Copy the rows that CEOA aligns, of a model with both branches."""
    event_rows = model.event_classifier_weight
    object_rows = model.object_classifier_weight
    if event_rows is None or object_rows is None:
        return {}
    return {"event": event_rows.detach().clone(), "object": object_rows.detach().clone()}


def measure_rows(model: AudioVisualNet, start: Rows) -> dict[str, float]:
    """Measure the norms of the rows that CEOA aligns, and how far they are from `start`."""
    measures = {}
    for name, rows in copy_rows(model).items():
        first = start[name].norm(dim=1).clamp_min(SMALLEST)  # (E,) or (O,)
        moved = (rows - start[name]).norm(dim=1) / first
        measures[f"{name}_row_norm"] = float(rows.norm(dim=1).mean())
        measures[f"{name}_row_moved"] = float(moved.mean())
    return measures
