"""Pictures as a backbone expects them: timm's own preparation is the reference."""

import numpy as np
import pytest
import timm
import torch
from av import VideoFrame
from PIL import Image
from timm.data import create_transform, resolve_data_config

from avsc_core.config import Pictures
from avsc_core.data.features import Features, locate_features
from avsc_core.data.media import _convert_frame
from avsc_core.errors import UserError
from avsc_core.resolve import (
    complete_settings,
    identify,
    parse_set,
    read_recorded,
    resolve,
    trial_key,
)
from avsc_core.weights.preparation import choose_pictures, find_colours


@pytest.mark.parametrize(
    "backbone",
    ["resnet10t", "vgg16", "vit_base_patch32_clip_224.openai", "vit_base_patch16_siglip_256"],
)
def test_a_stand_in_gets_the_pictures_of_timms_own_transform(backbone: str):
    noise = np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((480, 270), Image.Resampling.BICUBIC)
    pictures = choose_pictures(resolve("paper", parse_set([f"visual.backbone={backbone}"])))
    ours = _convert_frame(
        VideoFrame.from_ndarray(np.asarray(picture)),
        pictures.resize,
        pictures.size,
        pictures.interpolation,
        pictures.squash,
    )
    listed = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(backbone).to_dict())
    theirs = create_transform(**listed)(picture)  # normalised
    colours = find_colours(backbone)
    normalised = (ours / 255 - torch.tensor(colours.mean).view(3, 1, 1)) / torch.tensor(
        colours.std
    ).view(3, 1, 1)
    assert normalised.shape == theirs.shape
    # Pillow and torch round a resized picture differently, by less than a level of 255 on average.
    assert (normalised - theirs).abs().mean() < 0.01


def test_squash_keeps_the_edges():
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[:, :10] = 255
    cut, squashed = (
        _convert_frame(VideoFrame.from_ndarray(picture), 32, 32, "bilinear", squash)
        for squash in (False, True)
    )
    assert cut.shape == squashed.shape == (3, 32, 32)
    assert cut[0, :, 0].max() == 0
    assert squashed[0, :, 0].min() == 255


def test_convnext_and_settings_keep_todays_pictures():
    for sets in ([], ["visual.backbone=[convnext, resnet10t]"], ["pictures.preparation=settings"]):
        config = resolve("paper", parse_set(sets))
        pictures = choose_pictures(config)
        assert (pictures.resize, pictures.size, pictures.interpolation) == (232, 224, "bilinear")
    given = ["visual.backbone=resnet10t", "pictures.preparation=settings", "pictures.size=200"]
    assert choose_pictures(resolve("paper", parse_set(given))).size == 200
    first = resolve("paper", parse_set(["visual.backbone=[resnet10t, convnext]"]))
    assert choose_pictures(first).size == 176


def test_what_cannot_be_prepared_is_said():
    config = resolve("paper", parse_set(["visual.backbone=volo_d5_512"]))
    with pytest.raises(UserError, match=r"volo_d5_512 takes .* set pictures\.preparation to"):
        choose_pictures(config)


def test_every_place_asks_one_function(features: Features):
    """The cache of frames is that of the pictures which the encoder is built for."""
    stand_in = resolve("paper", parse_set(["visual.backbone=resnet10t"]))
    explicit = [
        *("visual.backbone=resnet10t", "pictures.preparation=settings", "pictures.size=176"),
        *("pictures.resize=201", "pictures.interpolation=bicubic"),
    ]
    same = resolve("paper", parse_set(explicit))
    assert locate_features(features.data, stand_in) == locate_features(features.data, same)
    assert locate_features(features.data, stand_in) != locate_features(
        features.data, resolve("paper")
    )


def test_trials_of_earlier_versions_keep_key_and_pictures():
    """They prepared the pictures of every backbone as the settings say, and had no such setting."""
    new = resolve("paper", parse_set(["visual.backbone=resnet10t"]))
    recorded = new.model_dump(mode="json")
    for name in Pictures.ADDED | {"preparation"}:
        del recorded["pictures"][name]
    old = read_recorded(recorded)
    assert choose_pictures(old).size == 224
    assert trial_key(old) != trial_key(new)
    assert "preparation" not in identify(old)["pictures"]
    assert complete_settings(identify(old))["pictures.preparation"] == "settings"
    assert complete_settings(identify(new))["pictures.preparation"] == "backbone"
    assert read_recorded(new.model_dump(mode="json")) == new
