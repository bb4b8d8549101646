"""This module changes training clips at random, anew in every epoch.

All of it is off by default: the paper uses none.

Log-mels (B,T,128): speed, shifts in time, gain, noise, and the masks of SpecAugment (Park et al.
2019). All of these change recorded frames only: padding, whose frames are exactly 0 and follow the
recorded ones, stays as it is.

Frames (B,F,3,H,W): mirror images, crops and RandAugment (Cubuk et al. 2020), the same for all
frames of a clip. Whole clips: mixup (Zhang et al. 2018).

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
from avsc_core.data.logmel import find_padding

# The partner of each clip (B,), and the share that a clip keeps of itself (B,).
Mixing = tuple[Tensor, Tensor]


def augment_log_mel(log_mel: Tensor, settings: Augmentation) -> Tensor:
    """Change log-mels (B,T,128), not normalised yet: speed, place in time, gain, noise, masks."""
    log_mel = log_mel.float()
    if settings.speed:
        log_mel = _change_speed(log_mel, settings.speed)
    if settings.time_shift:
        log_mel = _shift_in_time(log_mel, settings.time_shift)

    # Gain and noise come before the masks, so that a mask hides the mean of what is heard.
    padding = find_padding(log_mel)  # (B,T,1)
    if settings.gain_db:
        log_mel = torch.where(padding, 0.0, _change_gain(log_mel, settings.gain_db))
    if settings.noise:
        log_mel = torch.where(padding, 0.0, _add_noise(log_mel, settings.noise))
    if settings.time_mask:
        hidden = _draw_spans(len(log_mel), log_mel.shape[1], settings.time_mask)  # (B,T)
        log_mel = _replace_by_mean(log_mel, hidden[:, :, None], padding)
    if settings.mel_mask:
        hidden = _draw_spans(len(log_mel), log_mel.shape[2], settings.mel_mask)  # (B,128)
        log_mel = _replace_by_mean(log_mel, hidden[:, None], padding)
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
    log_mel: Tensor | None,  # (B,T,128) or encodings (B,width); None for a model without sound
    frames: Tensor | None,  # (B,F,3,H,W) or encodings (B,width)
    events: Tensor,  # (B,E)
    objects: Tensor,  # (B,O)
    scenes: Tensor,  # (B,)
    scene_count: int,  # S
    settings: Augmentation,
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor, Tensor]:
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
        None if log_mel is None else _mix(log_mel, audio_mixing),
        None if frames is None else _mix(frames, visual_mixing),
        _mix(events, audio_mixing),
        _mix(objects, visual_mixing),
        (_mix(targets, audio_mixing) + _mix(targets, visual_mixing)) / 2,
    )


def _change_speed(log_mel: Tensor, most: float) -> Tensor:
    """Make each clip of (B,T,128) faster or slower by up to the share `most` of its tempo.

    At tempo r, frame t is what was between frames floor(r t) and ceil(r t), interpolated. So a
    faster clip ends earlier, and padding follows; of a slower one the end is cut off.
    """
    tempo = 1 + most * (2 * torch.rand(len(log_mel)) - 1)  # (B,)
    tempo = tempo.to(log_mel.device)[:, None, None]
    last = _count_recorded(log_mel)[:, None, None] - 1  # (B,1,1)
    time = torch.arange(log_mel.shape[1], device=log_mel.device)[:, None]  # (T,1)

    position = tempo * time  # (B,T,1)
    before = position.floor().long().clamp_max(last)
    after = (before + 1).clamp_max(last)
    values = torch.lerp(_pick_frames(log_mel, before), _pick_frames(log_mel, after), position % 1)
    is_recorded = (position <= last) & (time <= last)
    return torch.where(is_recorded, values, 0.0)


def _shift_in_time(log_mel: Tensor, most: float) -> Tensor:
    """Roll the recorded frames of each clip of (B,T,128), either way, by up to a share `most`."""
    share = most * (2 * torch.rand(len(log_mel)) - 1)  # (B,)
    count = _count_recorded(log_mel)[:, None, None]  # (B,1,1)
    shift = (share.to(log_mel.device)[:, None, None] * count).round().long()
    time = torch.arange(log_mel.shape[1], device=log_mel.device)[:, None]  # (T,1)
    source = (time - shift) % count.clamp_min(1)
    return _pick_frames(log_mel, torch.where(time < count, source, time))


def _count_recorded(log_mel: Tensor) -> Tensor:
    """Count the frames of each clip of (B,T,128) before its padding: (B,)."""
    return (~find_padding(log_mel)).sum((1, 2))


def _pick_frames(log_mel: Tensor, frames: Tensor) -> Tensor:
    """Pick frames by their numbers (B,T,1) out of each clip of (B,T,128)."""
    return log_mel.gather(1, frames.clamp_min(0).expand_as(log_mel))


def _change_gain(log_mel: Tensor, gain_db: float) -> Tensor:
    """Add to each log-mel of (B,T,128) its own gain, at most `gain_db` either way."""
    gain = _convert_decibels(gain_db * (2 * torch.rand(len(log_mel)) - 1))  # (B,)
    return log_mel + gain.to(log_mel.device)[:, None, None]


def _add_noise(log_mel: Tensor, most_db: float) -> Tensor:
    """Add normal noise to each log-mel of (B,T,128), with its own deviation up to `most_db`."""
    deviation = _convert_decibels(most_db * torch.rand(len(log_mel)))  # (B,)
    noise = deviation[:, None, None] * torch.randn(log_mel.shape)  # (B,T,128)
    return log_mel + noise.to(log_mel.device)


def _convert_decibels(decibels: Tensor) -> Tensor:
    """Convert decibels to the unit of log-mels, which are natural logarithms of a power."""
    return decibels * math.log(10) / 10


def _draw_spans(clips: int, size: int, widest: float) -> Tensor:
    """Draw one span a clip at a random place, up to `widest` of the size: (B,size) bool."""
    # The width comes first, then a start from which the span still fits.
    width = torch.rand(clips) * widest * size
    start = torch.rand(clips) * (size - width)
    position = torch.arange(size)
    return (position >= start[:, None]) & (position < (start + width)[:, None])


def _replace_by_mean(log_mel: Tensor, hidden: Tensor, padding: Tensor) -> Tensor:
    """Replace the values of recorded frames where `hidden` is true by the mean of their clip.

    `hidden` and `padding` (B,T,1) are broadcast to (B,T,128). Padding is not in the mean either.
    """
    recorded = ~padding
    count = (recorded.sum(1, keepdim=True) * log_mel.shape[2]).clamp_min(1)  # (B,1,1)
    mean = log_mel.sum((1, 2), keepdim=True) / count  # (B,1,1)
    return torch.where(hidden.to(log_mel.device) & recorded, mean, log_mel)


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
