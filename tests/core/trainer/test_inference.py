"""Scene probabilities of a model with and without a coarse head, against plain Python."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avsc_core.data.dataset import split_rows
from avsc_core.data.features import Features
from avsc_core.labels import COARSE_CLASSES, COARSE_OF_SCENE, SCENES
from avsc_core.model.network import Outputs
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer.inference import scene_probabilities
from avsc_core.trainer.loop import fit, predict_rows
from tests.builders.configs import TINY


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(logit) for logit in logits]
    return [power / sum(powers) for power in powers]


@given(st.integers(0, 2**31), st.booleans())
def test_both_heads_decide_by_the_renormalised_product(seed: int, has_coarse: bool):
    generator = torch.Generator().manual_seed(seed)
    scene_logits = 4 * torch.randn(3, 10, generator=generator)
    coarse_logits = 4 * torch.randn(3, 3, generator=generator)
    outputs = Outputs(None, None, scene_logits, None, None, coarse_logits if has_coarse else None)
    for clip, row in enumerate(scene_probabilities(outputs).tolist()):
        fine = softmax(scene_logits[clip].tolist())
        coarse = softmax(coarse_logits[clip].tolist())
        products = []
        for scene, probability in zip(SCENES, fine, strict=True):
            factor = coarse[COARSE_CLASSES.index(COARSE_OF_SCENE[scene])] if has_coarse else 1.0
            products.append(probability * factor)
        wanted = [product / sum(products) for product in products]
        assert row == pytest.approx(wanted, rel=1e-6, abs=1e-12)


def test_a_training_with_a_coarse_head_is_scored_by_both(features: Features):
    config = resolve("demo", parse_set([*TINY, "losses.coarse=1"]))
    rows = split_rows(features.data, config.split)
    *_, epoch = fit(config, features, rows.train, rows.validation)
    assert epoch.metrics["val_coarse"] > 0
    assert epoch.metrics["train_coarse"] > 0
    probability, _ = predict_rows(epoch.model, epoch.inputs, rows.validation, config)
    truth = features.data.scenes[rows.validation]
    logloss = -sum(math.log(row[scene]) for row, scene in zip(probability, truth, strict=True))
    assert epoch.metrics["val_logloss"] == pytest.approx(logloss / len(truth))
