"""Which parameters decay, the rate that each one learns at, and the warm-up in closed form."""

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from avsc_core.config import Config
from avsc_core.model import build_model
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer.optim import build_optimiser, build_schedule
from tests.builders.configs import TINY

RATES = (
    "training.weight_decay=0.3",
    "training.learning_rate=2e-3",
    "training.head_multiplier=10",
)


def configure(*sets: str) -> Config:
    return resolve("demo", parse_set([*TINY, *RATES, *sets]))


def groups_by_name(config: Config) -> tuple[nn.Module, dict[str, list[dict[str, object]]]]:
    """A model, and for every one of its parameters the groups that hold it."""
    model = build_model(config)
    optimiser = build_optimiser(model, config.training)
    found = {}
    for name, parameter in model.named_parameters():
        found[name] = [
            group
            for group in optimiser.param_groups
            if any(parameter is each for each in group["params"])
        ]
    return model, found


def undecayed(config: Config) -> set[str]:
    _, groups = groups_by_name(config)
    decays = {name: group["weight_decay"] for name, (group,) in groups.items()}
    assert set(decays.values()) == {0.0, 0.3}
    return {name for name, decay in decays.items() if decay == 0.0}


def test_what_decays_in_preset_demo():
    """All matrices and kernels; no bias, norm, layer scale, token or position embedding."""
    config = configure("fusion.bias=true")
    spared = undecayed(config)
    weights = {name for name, _ in build_model(config).named_parameters()} - spared
    ast = "audio.encoder.backbone."
    convnext = "visual.encoder.backbone."
    assert {f"{ast}{name}" for name in ("pos_embed", "cls_token", "dist_token")} <= spared
    assert {f"{ast}blocks.0.norm1.weight", f"{ast}norm.weight", f"{ast}norm.bias"} <= spared
    assert {f"{convnext}stages.0.blocks.0.gamma", f"{convnext}stem.0.bias"} <= spared
    for direction in ("events_ask", "objects_ask"):
        assert f"fusion.{direction}.bias" in spared  # (2,heads,d), and no weight all the same
        assert f"fusion.{direction}.output_bias" in spared
        assert f"fusion.{direction}.weight" in weights
    assert {f"{ast}patch_embed.proj.weight", f"{ast}blocks.0.attn.qkv.weight"} <= weights
    assert {f"{convnext}stem.0.weight", f"{convnext}stages.0.blocks.0.mlp.fc1.weight"} <= weights
    assert {"audio.embed.0.weight", "visual.classifier.weight"} <= weights
    assert "fusion.layer.layers.0.weight" in weights
    assert not any(name.endswith("bias") for name in weights)


@pytest.mark.parametrize(
    ("backbone", "spared_weights", "decayed"),
    [
        (
            "vit_tiny_patch16_224",
            {"pos_embed", "cls_token"},
            {"patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"},
        ),
        ("swin_tiny_patch4_window7_224", None, {"layers.0.blocks.0.attn.qkv.weight"}),
        ("resnet10t", set(), {"layer1.0.conv1.weight"}),
    ],
)
def test_what_decays_in_a_timm_backbone(
    backbone: str, spared_weights: set[str] | None, decayed: set[str]
):
    """Beside vectors and biases, exactly what the backbone itself spares."""
    config = configure(f"visual.backbone={backbone}", "pictures.size=224", "pictures.resize=224")
    prefix = "visual.encoder.backbone."
    parameters: dict[str, Tensor] = dict(build_model(config).named_parameters())
    spared = undecayed(config)
    wide = {
        name.removeprefix(prefix)
        for name in spared
        if name.startswith(prefix) and parameters[name].ndim > 1
    }
    if spared_weights is None:  # one table in every block
        assert wide
        assert all(name.endswith("attn.relative_position_bias_table") for name in wide)
    else:
        assert wide == spared_weights
    assert not {f"{prefix}{name}" for name in decayed} & spared


@pytest.mark.parametrize("kind", ["semantic", "none", "intermediate", "decision", "hybrid"])
@pytest.mark.parametrize("modality", ["audio-visual", "audio", "visual"])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_every_parameter_is_in_one_group(kind: str, modality: str, decay: float):
    sets = (f"fusion.kind={kind}", f"modality={modality}", f"training.weight_decay={decay}")
    _, groups = groups_by_name(configure(*sets, "fusion.decision=class-wise", "fusion.bias=true"))
    assert {name: len(found) for name, found in groups.items()} == dict.fromkeys(groups, 1)


def test_encoders_learn_at_the_rate_and_the_rest_at_its_multiple():
    _, groups = groups_by_name(configure("fusion.bias=true"))
    for name, (group,) in groups.items():
        expected = 2e-3 if ".encoder." in name else 2e-2
        assert group["lr"] == pytest.approx(expected), name


@pytest.mark.parametrize("branch", ["audio", "visual"])
@pytest.mark.parametrize("policy", ["1", "all"])
def test_frozen_parameters_are_in_no_group(branch: str, policy: str):
    model, groups = groups_by_name(configure("audio.depth=2", f"{branch}.freeze={policy}"))
    trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: bool(found) for name, found in groups.items()} == trainable
    encoder = [value for name, value in trainable.items() if name.startswith(f"{branch}.encoder.")]
    assert any(encoder) == (policy == "1")
    assert not all(encoder)


def test_a_model_without_encoders():
    """What a trial trains on the encodings of frozen encoders: one rate, two groups."""
    config = configure()
    model = build_model(config, frozenset({"audio", "visual"}))
    optimiser = build_optimiser(model, config.training)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.3, 0.0]
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([2e-2, 2e-2])
    assert optimiser.defaults["fused"]


@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.1, 0.5, 0.9])
def test_the_warm_up_is_its_closed_form(warmup: float):
    """(s + 1) / (W + 1) of each group's own rate for the first W steps, then all of it."""
    config = configure(f"training.warmup={warmup}", "training.epochs=5")
    optimiser: AdamW = build_optimiser(build_model(config), config.training)
    rates = [group["lr"] for group in optimiser.param_groups]
    schedule = build_schedule(optimiser, config.training, steps_per_epoch=20)
    warm = round(100 * warmup)
    for step in range(100):
        factor = min(1.0, (step + 1) / (warm + 1))
        found = [group["lr"] for group in optimiser.param_groups]
        assert found == pytest.approx([factor * rate for rate in rates], rel=1e-12), step
        optimiser.step()
        schedule.step()


def test_the_warm_up_continues_from_its_state():
    config = configure("training.warmup=0.5", "training.epochs=1")
    rates = []
    state: list[dict[str, object]] = []
    for steps in (4, 6):  # of 10; the second half starts from the first one's state
        optimiser = build_optimiser(build_model(config), config.training)
        schedule = build_schedule(optimiser, config.training, steps_per_epoch=10)
        if state:
            optimiser.load_state_dict(state[0])
            schedule.load_state_dict(state[1])
        for _ in range(steps):
            rates.append(optimiser.param_groups[0]["lr"] / 2e-3)
            optimiser.step()
            schedule.step()
        state = [optimiser.state_dict(), schedule.state_dict()]
    warm = torch.arange(1, 11) / 6
    assert rates == pytest.approx(warm.clamp_max(1).tolist(), rel=1e-6)
