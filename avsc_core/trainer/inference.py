"""Run a trained model on clips: eval mode, the configured precision, no gradients.

Everything that asks a model for scenes goes through here: validation after an epoch, `evaluate` by
clip and by segment, answer files, and `predict`. Log-mels (B,T,128) and frames (B,F,3,H,W) ->
`Outputs` -> scene probabilities (B,S).
"""

import torch
from numpy import ndarray
from torch import Tensor

from avsc_core.config import Config
from avsc_core.data.batches import normalise_frames
from avsc_core.data.logmel import Scale, normalise
from avsc_core.labels import COARSE_NUMBERS
from avsc_core.model.network import AudioVisualNet, Outputs
from avsc_core.trainer.device import autocast
from avsc_core.weights.preparation import Colours


@torch.inference_mode()
def run_model(
    model: AudioVisualNet,
    log_mel: Tensor | None,  # (B,T,128) normalised, or encodings (B,width)
    frames: Tensor | None,  # (B,F,3,H,W) normalised, or encodings (B,width)
    config: Config,
) -> Outputs:
    """Run the model on B clips that are on its device; what it has no branch for may be None."""
    model.eval()
    with autocast(config, next(model.parameters()).device):
        outputs: Outputs = model(log_mel, frames)
    return outputs


def run_raw_clips(
    model: AudioVisualNet,
    log_mel: ndarray | None,  # (B,T,128) as cached, not normalised
    frames: ndarray | None,  # (B,F,3,H,W) uint8
    scale: Scale,
    colours: Colours,
    config: Config,
) -> Outputs:
    """Normalise B raw clips on the model's device, as in training, and run the model."""
    device = next(model.parameters()).device
    sounds = pictures = None
    if log_mel is not None:
        sounds = normalise(torch.from_numpy(log_mel).to(device), scale)
    if frames is not None:
        pictures = normalise_frames(torch.from_numpy(frames).to(device), colours)
    return run_model(model, sounds, pictures, config)


def scene_probabilities(outputs: Outputs) -> ndarray:
    """Return the scene probabilities (B,S) in float64, which keeps the digits of small ones.

    With a coarse head, both heads decide together, as two-stage classifiers do: the probability of
    a scene is proportional to the product of that of the scene and that of its coarse class.
    """
    logits = outputs.scene_logits.double()  # (B,S)
    if outputs.coarse_logits is not None:
        coarse = outputs.coarse_logits.double().log_softmax(1)  # (B,3)
        logits = logits + coarse[:, COARSE_NUMBERS]
    return logits.softmax(1).cpu().numpy()
