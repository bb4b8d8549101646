"""Which parameters decay, the rate that each one learns at, and schedules against libraries."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.optim import param_groups_layer_decay
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

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


def list_factors(*sets: str, steps_per_epoch: int = 7) -> list[float]:
    """The factor of the learning rate at every step of a training, from its optimiser."""
    config = configure(*sets)
    optimiser = build_optimiser(nn.Linear(2, 2), config.training)
    base = optimiser.param_groups[0]["lr"]
    schedule = build_schedule(optimiser, config.training, steps_per_epoch)
    factors = []
    for _ in range(config.training.epochs * steps_per_epoch):
        factors.append(optimiser.param_groups[0]["lr"] / base)
        optimiser.step()
        schedule.step()
    return factors


def make_sgd() -> SGD:
    return SGD([nn.Parameter(torch.zeros(1))], lr=1.0)


def test_cosine_and_step_are_those_of_torch():
    optimisers = make_sgd(), make_sgd()
    schedules = CosineAnnealingLR(optimisers[0], 70), StepLR(optimisers[1], 3 * 7, 0.2)
    wanted: list[list[float]] = [[], []]
    for _ in range(70):
        for values, optimiser, schedule in zip(wanted, optimisers, schedules, strict=True):
            values.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
    cosine = list_factors("training.epochs=10", "training.schedule=cosine", "training.warmup=0")
    assert cosine == pytest.approx(wanted[0], rel=1e-9, abs=1e-12)
    step = ("training.schedule=step", "training.step_epochs=3", "training.step_factor=0.2")
    assert list_factors("training.epochs=10", "training.warmup=0", *step) == pytest.approx(
        wanted[1], rel=1e-9
    )


@pytest.mark.parametrize("warmup", [0.1, 0.35])
def test_after_the_warm_up_they_are_those_of_timm(warmup: float):
    warm = round(warmup * 70)
    common = {
        "warmup_t": warm,
        "warmup_prefix": True,
        "warmup_lr_init": 1 / (warm + 1),
        "t_in_epochs": False,
    }
    cosine = CosineLRScheduler(make_sgd(), t_initial=70 - warm, **common)
    step = StepLRScheduler(make_sgd(), decay_t=2 * 7, decay_rate=0.3, **common)
    wanted: dict[str, list[float]] = {"cosine": [], "step": []}
    for number in range(70):
        for name, schedule in (("cosine", cosine), ("step", step)):
            schedule.step_update(number)
            wanted[name].append(schedule.optimizer.param_groups[0]["lr"])
    for name, values in wanted.items():
        found = list_factors(
            f"training.schedule={name}",
            f"training.warmup={warmup}",
            "training.epochs=10",
            "training.step_epochs=2",
            "training.step_factor=0.3",
        )
        assert found == pytest.approx(values, rel=1e-9)


def test_the_second_stage_multiplies_every_rate():
    common = ("training.epochs=6", "training.schedule=cosine", "training.warmup=0.1")
    plain = list_factors(*common)
    staged = list_factors(*common, "training.heads_first=2", "training.second_stage=0.05")
    assert staged[: 2 * 7] == plain[: 2 * 7]
    assert staged[2 * 7 :] == pytest.approx([0.05 * factor for factor in plain[2 * 7 :]])
    assert list_factors(*common, "training.second_stage=0.05") == plain  # without a first stage


@pytest.mark.parametrize(
    "backbones",
    [
        (),
        ("visual.backbone=resnet10t", "audio.backbone=vit_tiny_patch16_224"),
        ("visual.backbone=swin_tiny_patch4_window7_224", "pictures.size=224"),
    ],
)
def test_layers_decay_as_timm_has_it(backbones: tuple[str, ...]):
    sets = ("audio.depth=3", "pictures.resize=null", *backbones)
    model, groups = groups_by_name(configure("training.layer_decay=0.6", *sets))
    rates = {name: group["lr"] / 2e-3 for name, (group,) in groups.items()}
    compared = 0
    for branch in ("audio", "visual"):
        prefix = f"{branch}.encoder.backbone."
        backbone = model.get_submodule(prefix.removesuffix("."))
        names = {parameter: name for name, parameter in backbone.named_parameters()}
        for group in param_groups_layer_decay(backbone, layer_decay=0.6):
            for parameter in group["params"]:
                name = f"{prefix}{names[parameter]}"
                assert rates.pop(name) == pytest.approx(group["lr_scale"]), name
                compared += 1
    assert compared > 20
    assert min(rates.values()) == pytest.approx(10)  # the heads have the rate that they had
    assert max(rates.values()) == pytest.approx(10)


def test_the_fusion_may_have_a_rate_of_its_own():
    _, groups = groups_by_name(configure("training.fusion_multiplier=500", "losses.coarse=1"))
    for name, (group,) in groups.items():
        part = 1.0 if ".encoder." in name else 10
        part = 500 if name.startswith(("fusion.", "coarse.")) else part
        assert group["lr"] == pytest.approx(2e-3 * part), name


@given(
    layer_decay=st.sampled_from([0.3, 0.75, 1.0]),
    fusion=st.sampled_from(["null", "1", "10", "0.5"]),
    head=st.sampled_from([1, 10]),
    freeze=st.sampled_from(["none", 1, "all"]),
    kind=st.sampled_from(["semantic", "none", "hybrid"]),
    coarse=st.sampled_from([0, 1]),
    heads_first=st.sampled_from([0, 2]),
)
@settings(max_examples=40)
def test_every_combination_has_each_trainable_parameter_in_one_group(
    layer_decay: float,
    fusion: str,
    head: int,
    freeze: str | int,
    kind: str,
    coarse: int,
    heads_first: int,
):
    model, groups = groups_by_name(
        configure(
            "audio.depth=2",
            f"training.layer_decay={layer_decay}",
            f"training.fusion_multiplier={fusion}",
            f"training.head_multiplier={head}",
            f"training.heads_first={heads_first}",
            f"audio.freeze={freeze}",
            f"fusion.kind={kind}",
            f"losses.coarse={coarse}",
        )
    )
    for name, parameter in model.named_parameters():
        assert len(groups[name]) == parameter.requires_grad, name
