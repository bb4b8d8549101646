"""This module turns samples into a log-mel spectrogram (T,128) as AST does.

That is kaldi's fbank, padded, then normalised.

Padding comes before normalising, so padded frames, which are exactly 0, carry the value that AST
saw there in its training. The constants of AudioSet are AST's own. TAU's recordings are about 28 dB
quieter, which is why the setting `log_mel.normalise` also offers `dataset` and `peak` (not in the
paper; because a quieter input is a shifted input). With `dataset`, padding keeps AST's value.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.compliance.kaldi import fbank

MEL_BINS = 128
SMALLEST_PEAK = 1e-8  # keeps silence from being divided by zero


class Scale(NamedTuple):
    """The normalisation (x - mean) / (2 std) of a log-mel."""

    mean: float
    std: float

    # The value of padded frames after normalisation. None: what zeros become, which is right for
    # AudioSet's constants and is what models of earlier versions were trained with.
    padding: float | None = None


AUDIOSET = Scale(-4.2677393, 4.5689974)  # AST, Gong et al. 2021
AST_PADDING = -AUDIOSET.mean / (2 * AUDIOSET.std)  # what AST saw in padded frames, 0.467


def convert_to_log_mel(
    samples: Tensor,  # (n,)
    sample_rate: int,  # Hz
    window: str = "hamming",
    window_ms: float = 25.0,
    hop_ms: float = 10.0,
    frames: int = 1024,  # T
    peak: bool = False,
) -> Tensor:
    """Compute a log-mel (T,128) float32, cropped or padded to T frames, not normalised yet.

    With `peak` the samples are scaled to a peak of 1 first.
    """
    samples = samples - samples.mean()
    if peak:
        samples = samples / samples.abs().max().clamp_min(SMALLEST_PEAK)
    # kaldi's filter bank with the arguments of AST's own data loader.
    mel = fbank(
        samples[None],
        htk_compat=True,
        sample_frequency=sample_rate,
        use_energy=False,
        window_type=window,
        num_mel_bins=MEL_BINS,
        dither=0.0,
        frame_length=window_ms,
        frame_shift=hop_ms,
    )  # (frames of the recording, 128)

    # A short recording is padded with zeros, a long one is cropped.
    missing = max(0, frames - len(mel))
    return pad(mel[:frames], (0, 0, 0, missing))


def normalise(mel: Tensor, scale: Scale) -> Tensor:
    """Normalise log-mels (...,T,128) as AST does; padded frames get `scale.padding`."""
    normalised = (mel.float() - scale.mean) / (2 * scale.std)
    if scale.padding is None:
        return normalised
    return torch.where(find_padding(mel), scale.padding, normalised)


def find_padding(mel: Tensor) -> Tensor:
    """Tell which frames of log-mels (...,T,128), not normalised yet, are padding: (...,T,1) bool.

    All their values are exactly 0. Those of a recorded frame never are: digital silence is -15.9.
    """
    return (mel == 0).all(-1, keepdim=True)
