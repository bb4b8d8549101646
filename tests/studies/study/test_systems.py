"""The systems of Table V and the encoders beside the paper's: timm has each, and each can train."""

from math import isfinite

import pytest
import torch

from avsc_core.config import Config
from avsc_core.data.batches import Batch
from avsc_core.model import build_model
from avsc_core.trainer.step import build_training, train_step
from avsc_core.weights.preparation import choose_pictures
from studies.study.reading import read_study
from tests.builders.studies import STUDIES

CLIPS = 2
SYSTEMS = read_study(STUDIES / "systems.yaml", preset="paper").arms
ENCODERS = read_study(STUDIES / "encoders.yaml", preset="paper").arms


def make_clips(config: Config) -> Batch:
    """Make random clips of the size of a configuration's."""
    size = choose_pictures(config).size
    return Batch(
        log_mel=torch.randn(CLIPS, config.log_mel.frames, 128),
        frames=torch.randn(CLIPS, config.pictures.frames, 3, size, size),
        events=torch.randint(0, 2, (CLIPS, config.audio.classes)).float(),
        objects=torch.randint(0, 2, (CLIPS, config.visual.classes)).float(),
        scenes=torch.arange(CLIPS),
    )


@pytest.mark.parametrize("arm", [*SYSTEMS, *ENCODERS], ids=lambda arm: arm.name)
def test_timm_has_every_backbone(arm):
    with torch.device("meta"):  # without memory for its weights
        assert build_model(arm.config).branches.keys() == {"audio", "visual"}
    assert choose_pictures(arm.config).size >= 176  # the smallest that one of them was trained on


@pytest.mark.slow
@pytest.mark.parametrize("arm", SYSTEMS, ids=lambda arm: arm.name)
def test_every_system_trains_a_step_at_full_size(arm):
    torch.manual_seed(0)
    model = build_model(arm.config)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    model.train()
    terms = train_step(build_training(arm.config, model, 1), make_clips(arm.config))
    assert isfinite(terms["total"])

    # Both encoders have learned, and so has what makes scenes of their encodings.
    after = model.state_dict()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    for part in ("audio.encoder", "visual.encoder", "fusion"):
        assert any(key.startswith(part) for key in changed), part
