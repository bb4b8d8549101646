"""On a GPU, all that a model (avsc_core/model/network.py) and its losses compute with is there.

Tensors without values stand for those of a GPU that this machine need not have. torch raises as
soon as one of them meets a tensor of the CPU. (A GRU asks the driver for cuDNN, so it is not here.)
"""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from avsc_core.data import batches
from avsc_core.data.batches import normalise_frames
from avsc_core.data.logmel import AUDIOSET, normalise
from avsc_core.model import attention, build_model
from avsc_core.model.losses import build_losses
from avsc_core.resolve import parse_set, resolve
from tests.builders.configs import TINY

GPU = torch.device("cuda:0")


def place(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replace parameters and buffers by tensors without values on the GPU."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                fake = mode.from_tensor(parameter).detach().to(GPU)
                part._parameters[name] = nn.Parameter(fake, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = mode.from_tensor(buffer).to(GPU)


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    # The sizes of SF's grids depend on values, which these tensors do not have.
    def choose_grids(query, key, slope, shift, precision):
        low, high = query.amin(1, True), query.amax(1, True)
        grid = attention.Grid(torch.ones_like(low), True, low, high, 8)
        return grid, grid

    monkeypatch.setattr(attention, "_choose_grids", choose_grids)
    with FakeTensorMode() as mode:
        yield mode
    batches._place_colours.cache_clear()  # they have no values either


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("alignment.mode=rkm",),
        ("modality=audio",),
        ("modality=visual",),
        ("fusion.tokens=logit",),
        ("losses.class_weights=balanced", "losses.label_smoothing=0.1", "losses.coarse=0.5"),
        ("visual.pooling=attention", "pictures.frames=2"),
        ("visual.pooling=transformer", "pictures.frames=2"),
        ("log_mel.normalise=dataset",),
    ],
)
def test_no_tensor_stays_behind_on_the_cpu(mode: FakeTensorMode, sets: tuple[str, ...]):
    config = resolve("demo", parse_set([*TINY, *sets]))
    with torch._subclasses.fake_tensor.unset_fake_temporarily():
        model = build_model(config)
        weights = torch.ones(config.scenes)
    place(model, mode)

    size = config.pictures.size
    log_mel = torch.empty(4, config.log_mel.frames, 128, device=GPU)
    frames = torch.empty(4, config.pictures.frames, 3, size, size, dtype=torch.uint8, device=GPU)
    outputs = model(normalise(log_mel, AUDIOSET), normalise_frames(frames))
    labels = (
        torch.empty(4, config.audio.classes, device=GPU),
        torch.empty(4, config.visual.classes, device=GPU),
        torch.empty(4, dtype=torch.int64, device=GPU),
    )
    losses = build_losses(config, mode.from_tensor(weights).to(GPU))
    terms = losses(model, outputs, *labels, torch.Generator())
    assert {term.device for term in terms.values()} == {GPU}


def test_a_tensor_on_the_cpu_is_found(mode: FakeTensorMode):
    """So that the test above can fail."""
    with pytest.raises(RuntimeError, match="device"):
        torch.empty(3, device=GPU) + torch.empty(3)
