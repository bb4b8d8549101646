"""Samples -> log-mel spectrogram (T,128), as AST computes it: kaldi's fbank, padded, then normalised.

Padding comes before normalising, so that padded frames carry the value AST saw for silence in training. The constants
of AudioSet are AST's own; TAU's recordings are about 28 dB quieter, which is why `dataset` and `peak` exist.
"""

from typing import NamedTuple

import torch
from torchaudio.compliance.kaldi import fbank

MEL_BINS = 128


class Scale(NamedTuple):
    """Normalisation (x - mean) / (2 std)."""

    mean: float
    std: float


AUDIOSET = Scale(-4.2677393, 4.5689974)  # AST, Gong et al. 2021


def log_mel(
    samples: torch.Tensor,  # (n,)
    sample_rate: int,
    window: str = "hamming",
    window_ms: float = 25.0,
    hop_ms: float = 10.0,
    frames: int = 1024,
    peak: bool = False,
) -> torch.Tensor:
    """(frames,128) float32, not normalised yet; `peak` scales the samples to a peak of 1 first."""
    samples = samples - samples.mean()
    if peak:
        samples = samples / samples.abs().max().clamp_min(1e-8)
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
    )  # (T,128)
    return torch.nn.functional.pad(mel[:frames], (0, 0, 0, max(0, frames - len(mel))))


def normalise(mel: torch.Tensor, scale: Scale) -> torch.Tensor:
    """AST's normalisation of a log-mel of any shape."""
    return (mel.float() - scale.mean) / (2 * scale.std)
