"""This module changes training clips at random, anew in every epoch.

All of it is off by default: the paper uses none.

Log-mels (B,T,128): gain, and the masks of SpecAugment (Park et al. 2019). Frames (B,F,3,H,W):
mirror images, crops and RandAugment (Cubuk et al. 2020), the same for all frames of a clip. Whole
clips: mixup (Zhang et al. 2018).

Random numbers come from torch's own CPU generator, whatever the device. The training loop seeds it
at the start of every epoch, so a trial that is continued sees the same changes as one that was
never interrupted.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from avsc_core.config import Augmentation

# The partner of each clip (B,), and the share that a clip keeps of itself (B,).
Mixing = tuple[Tensor, Tensor]


def augment_log_mel(log_mel: Tensor, settings: Augmentation) -> Tensor:
    """Make log-mels (B,T,128), not normalised yet, louder or quieter, and mask them.

    Gain leaves padding as it is.
    """
    log_mel = log_mel.float()

    # Gain comes before the masks, so that a mask hides the mean of what is heard.
    if settings.gain_db:
        log_mel = _change_gain(log_mel, settings.gain_db)
    if settings.time_mask:
        hidden = _draw_spans(len(log_mel), log_mel.shape[1], settings.time_mask)  # (B,T)
        log_mel = _replace_by_mean(log_mel, hidden[:, :, None])
    if settings.mel_mask:
        hidden = _draw_spans(len(log_mel), log_mel.shape[2], settings.mel_mask)  # (B,128)
        log_mel = _replace_by_mean(log_mel, hidden[:, None])
    return log_mel


def augment_frames(frames: Tensor, settings: Augmentation) -> Tensor:
    """Mirror, crop and change frames (B,F,3,H,W) uint8; returns the same shape and type."""
    # Each clip is mirrored with the configured probability.
    if settings.flip:
        mirrored = torch.rand(len(frames)) < settings.flip  # (B,)
        mirrored = mirrored.to(frames.device)[:, None, None, None, None]
        frames = torch.where(mirrored, frames.flip(-1), frames)

    if settings.crop:
        frames = torch.stack([_crop_clip(clip, settings.crop) for clip in frames])

    if settings.rand_augment:
        # Called once for each clip, so that RandAugment draws once for all frames of the clip.
        rand_augment = v2.RandAugment(settings.rand_augment)
        frames = torch.stack([rand_augment(clip) for clip in frames])
    return frames


def apply_mixup(
    log_mel: Tensor,  # (B,T,128) or encodings (B,width)
    frames: Tensor,  # (B,F,3,H,W) or encodings (B,width)
    events: Tensor,  # (B,E)
    objects: Tensor,  # (B,O)
    scenes: Tensor,  # (B,)
    scene_count: int,  # S
    settings: Augmentation,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Mix every clip with a share of another one; the scenes (B,) become targets (B,S).

    With `mixup_partners` "joint" both modalities of a clip have the same partner and share. With
    "single" each has its own, and the target of the scene is the average of both (not in the paper;
    each modality is half of the clip).
    """
    # Partners and shares, of the audio branch first.
    audio_mixing = _draw_partners(len(scenes), settings.mixup, scenes.device)
    visual_mixing = audio_mixing
    if settings.mixup_partners == "single":
        visual_mixing = _draw_partners(len(scenes), settings.mixup, scenes.device)

    targets = one_hot(scenes, scene_count).float()  # (B,S)
    return (
        _mix(log_mel, audio_mixing),
        _mix(frames, visual_mixing),
        _mix(events, audio_mixing),
        _mix(objects, visual_mixing),
        (_mix(targets, audio_mixing) + _mix(targets, visual_mixing)) / 2,
    )


def _change_gain(log_mel: Tensor, gain_db: float) -> Tensor:
    """Add to each log-mel of (B,T,128) its own gain, at most `gain_db` either way.

    Padding, which is exactly 0, stays.
    """
    # A log-mel is the natural logarithm of a power, so a decibel is ln(10) / 10.
    gain = gain_db * (2 * torch.rand(len(log_mel)) - 1) * math.log(10) / 10  # (B,)
    louder = log_mel + gain.to(log_mel.device)[:, None, None]
    return torch.where(log_mel == 0, log_mel, louder)


def _draw_spans(clips: int, size: int, widest: float) -> Tensor:
    """Draw one span a clip at a random place, up to `widest` of the size: (B,size) bool."""
    # The width comes first, then a start from which the span still fits.
    width = torch.rand(clips) * widest * size
    start = torch.rand(clips) * (size - width)
    position = torch.arange(size)
    return (position >= start[:, None]) & (position < (start + width)[:, None])


def _replace_by_mean(log_mel: Tensor, hidden: Tensor) -> Tensor:
    """Replace the values where `hidden`, broadcast to (B,T,128), is true by their clip's mean."""
    mean = log_mel.mean((1, 2), keepdim=True)  # (B,1,1)
    return torch.where(hidden.to(log_mel.device), mean, log_mel)


def _crop_clip(clip: Tensor, most: float) -> Tensor:
    """Cut the same random part out of all frames of a clip (F,3,H,W) and resize it to (H,W).

    At least 1 - `most` of each side is kept.
    """
    # Both sides shrink by the same share, so that nothing is distorted.
    height, width = clip.shape[-2:]
    share = 1 - most * float(torch.rand(()))
    part_height = max(1, round(share * height))
    part_width = max(1, round(share * width))
    top = int(torch.randint(height - part_height + 1, ()))
    left = int(torch.randint(width - part_width + 1, ()))

    resized: Tensor = transforms.resized_crop(
        clip, top, left, part_height, part_width, size=[height, width], antialias=True
    )
    return resized


def _draw_partners(clips: int, alpha: float, device: torch.device) -> Mixing:
    """Draw a partner for each of B clips, and the share it keeps of itself, at least half.

    Shares follow Beta(alpha, alpha), as in mixup.
    """
    share = torch.distributions.Beta(alpha, alpha).sample((clips,))
    partner = torch.randperm(clips)
    return partner.to(device), torch.maximum(share, 1 - share).to(device)


def _mix(values: Tensor, mixing: Mixing) -> Tensor:
    """Mix values (B,...) with those of the partners."""
    partner, share = mixing
    kept = share.view(-1, *[1] * (values.ndim - 1))  # (B,1,...)
    return kept * values + (1 - kept) * values[partner]
