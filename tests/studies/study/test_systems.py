"""The systems of Table V (studies/systems.yaml, read by studies/study/reading.py) at full size."""

import pytest
import torch

from avsc_core.model import build_model
from avsc_core.trainer.frozen import find_frozen_branches
from avsc_core.trainer.measuring import make_random_batch
from avsc_core.trainer.step import build_training, train_step
from studies.study.reading import read_study
from studies.study.schema import Arm
from tests.builders.studies import STUDIES

SYSTEMS = read_study(STUDIES / "systems.yaml", preset="paper").arms


@pytest.mark.slow
@pytest.mark.parametrize("arm", SYSTEMS, ids=lambda arm: arm.name)
def test_every_system_trains_a_step_at_full_size(arm: Arm):
    """From random weights, on one clip: backbones and pictures of full size."""
    config = arm.config
    torch.manual_seed(0)
    model = build_model(config, find_frozen_branches(config)).train()
    parts = build_training(config, model, steps_per_epoch=1)
    terms = train_step(parts, make_random_batch(config, 1, torch.device("cpu")))
    assert terms["total"].isfinite()
    moved = [name for name, each in model.named_parameters() if each.grad is not None]
    assert any(name.startswith("fusion.") for name in moved)
    for branch in model.branches:
        assert any(name.startswith(f"{branch}.") for name in moved)
