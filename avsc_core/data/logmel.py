"""This module turns samples into a log-mel spectrogram (T,128) as AST does.

That is kaldi's fbank, padded, then normalised.

Padding comes before normalising, so padded frames carry the value that AST saw for silence in its
training. The constants of AudioSet are AST's own. TAU's recordings are about 28 dB quieter, which
is why the setting `log_mel.normalise` also offers `dataset` and `peak` (not in the paper; because a
quieter input is a shifted input).
"""

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import pad
from torchaudio.compliance.kaldi import fbank

MEL_BINS = 128
SMALLEST_PEAK = 1e-8  # keeps silence from being divided by zero


class Scale(NamedTuple):
    """The normalisation (x - mean) / (2 std) of a log-mel."""

    mean: float
    std: float


AUDIOSET = Scale(-4.2677393, 4.5689974)  # AST, Gong et al. 2021


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
    """Normalise a log-mel of any shape as AST does."""
    return (mel.float() - scale.mean) / (2 * scale.std)
