"""Training clips changed at random, anew in every epoch; all of it off by default, as the paper uses none.

Sound: gain, and SpecAugment's masks (Park et al. 2019) on the log-mel. Pictures: mirrored, cropped, RandAugment (Cubuk
et al. 2020), the same for all frames of a clip. Both: mixup (Zhang et al. 2018). Random numbers come from torch's own
CPU generator, which every epoch seeds, so a continued trial sees what it would have seen.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as change

from avsc_core.config import Augmentation


def augment_log_mel(log_mel: Tensor, settings: Augmentation) -> Tensor:
    """(B,T,128), not normalised yet -> the same, louder or quieter and masked; padding stays padding."""
    clips, log_mel = len(log_mel), log_mel.float()
    if settings.gain_db:
        gain = (
            settings.gain_db * (2 * torch.rand(clips) - 1) * math.log(10) / 10
        )  # of a natural logarithm of power
        log_mel = torch.where(
            log_mel == 0, log_mel, log_mel + gain.to(log_mel.device)[:, None, None]
        )
    for axis, widest in ((1, settings.time_mask), (2, settings.mel_mask)):
        if widest:
            hidden = _spans(clips, log_mel.shape[axis], widest).to(
                log_mel.device
            )  # (B,T) or (B,128)
            hidden = hidden[:, :, None] if axis == 1 else hidden[:, None]
            log_mel = torch.where(hidden, log_mel.mean((1, 2), keepdim=True), log_mel)
    return log_mel


def augment_pictures(frames: Tensor, settings: Augmentation) -> Tensor:
    """(B,F,3,H,W) uint8 -> the same."""
    if settings.flip:
        mirrored = torch.rand(len(frames)) < settings.flip
        frames = torch.where(
            mirrored.to(frames.device)[:, None, None, None, None], frames.flip(-1), frames
        )
    if settings.crop:
        frames = torch.stack([_cropped(clip, settings.crop) for clip in frames])
    if settings.rand_augment:
        operations = v2.RandAugment(settings.rand_augment)
        frames = torch.stack([operations(clip) for clip in frames])
    return frames


def mixup(
    sounds: Tensor,
    pictures: Tensor,
    events: Tensor,
    objects: Tensor,
    scenes: Tensor,
    count: int,  # S
    settings: Augmentation,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Every clip with a share of another; scenes (B,) become targets (B,S).

    `joint`: sound and pictures with the same partner and share. `single`: each with its own, and the scene's target is
    the average of both (not in the paper; each modality says half of what the clip is).
    """
    targets = one_hot(scenes, count).float()  # (B,S)
    heard = _partners(len(scenes), settings.mixup, scenes.device)
    seen = (
        heard
        if settings.mixup_partners == "joint"
        else _partners(len(scenes), settings.mixup, scenes.device)
    )
    mixed = (_mixed(targets, *heard) + _mixed(targets, *seen)) / 2
    return (
        _mixed(sounds, *heard),
        _mixed(pictures, *seen),
        _mixed(events, *heard),
        _mixed(objects, *seen),
        mixed,
    )


def _spans(clips: int, size: int, widest: float) -> Tensor:
    """(B,size): a span of each clip, of up to `widest` of the size, at a random place."""
    width = torch.rand(clips) * widest * size
    start = torch.rand(clips) * (size - width)
    place = torch.arange(size)
    return (place >= start[:, None]) & (place < (start + width)[:, None])


def _cropped(clip: Tensor, most: float) -> Tensor:
    """(F,3,H,W): a random square part, at least 1 - `most` of each side, back at full size."""
    height, width = clip.shape[-2:]
    share = 1 - most * float(torch.rand(()))
    tall, wide = max(1, round(share * height)), max(1, round(share * width))
    top, left = int(torch.randint(height - tall + 1, ())), int(torch.randint(width - wide + 1, ()))
    resized: Tensor = change.resized_crop(
        clip, top, left, tall, wide, [height, width], antialias=True
    )
    return resized


def _partners(clips: int, alpha: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """(B,) who each clip is mixed with, and (B,) the share it keeps, at least half."""
    share = torch.distributions.Beta(alpha, alpha).sample((clips,))
    return torch.randperm(clips).to(device), torch.maximum(share, 1 - share).to(device)


def _mixed(values: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    kept = share.view(-1, *[1] * (values.ndim - 1))
    return kept * values + (1 - kept) * values[partner]
