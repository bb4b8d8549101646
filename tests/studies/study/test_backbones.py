"""The backbones that studies name (studies/study/reading.py reads them): timm has each of them."""

import pytest
import torch

from avsc_core.model import build_model
from avsc_core.weights.preparation import choose_pictures
from studies.study.reading import read_study
from studies.study.schema import Arm
from tests.builders.studies import STUDIES

ARMS = [
    *read_study(STUDIES / "systems.yaml", preset="paper").arms,
    *read_study(STUDIES / "encoders.yaml", preset="paper").arms,
]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_arm_with_other_backbones_is_a_model(arm: Arm):
    with torch.device("meta"):  # without memory for its weights
        model = build_model(arm.config)
    assert model.branches.keys() == {"audio", "visual"}
    assert choose_pictures(arm.config).size >= 176  # the smallest that one of them was trained on
