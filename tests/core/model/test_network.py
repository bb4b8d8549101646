"""The whole model: the paper's sizes, single modalities, other backbones, ways of computing."""

import doctest
from collections.abc import Callable

import pytest
import torch

from avsc_core.errors import UserError
from avsc_core.model import build_model
from avsc_core.model.alignment import alignment_losses
from avsc_core.model.fusion import cross_attention
from avsc_core.model.losses import build_losses
from avsc_core.model.network import check_computation, find_encoding_shape
from avsc_core.model.pooling import FIXED, POOLINGS, build_pooling
from avsc_core.model.visual import VisualEncoder, build_visual_backbone
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer.device import autocast
from avsc_core.trainer.measuring import make_random_batch
from avsc_core.trainer.step import build_training, train_step
from avsc_core.weights.preparation import IMAGENET
from tests.builders.configs import TINY


@pytest.mark.parametrize("pooling", FIXED)
def test_pooling_over_frames(pooling: str):
    torch.manual_seed(0)
    backbone = build_visual_backbone("convnext", 32, "", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))
    pool = build_pooling(pooling, 8, 3)
    encoder = VisualEncoder(backbone, pool, torch.contiguous_format).eval()
    frames = torch.randn(2, 3, 3, 32, 32)
    shuffled = encoder(frames[:, [2, 0, 1]])
    assert shuffled.shape == (2, 16 if pooling == "mean+max" else 8)
    assert torch.allclose(encoder(frames), shuffled, atol=1e-5)
    assert not torch.allclose(encoder(frames), encoder(frames[:, :1]), atol=1e-3)


def test_the_papers_sizes():
    """The model of preset paper, without memory for its weights."""
    with torch.device("meta"):
        model = build_model(resolve("paper"))
    assert model.audio is not None
    assert model.visual is not None
    assert model.audio.encoder.backbone.pos_embed.shape == (
        1,
        1214,
        768,
    )  # 12 x 101 patches, cls and dist
    assert model.audio.classifier.weight.shape == (527, 1024)
    assert model.visual.classifier.weight.shape == (1000, 1024)
    assert model.fusion.layer.layers[0].weight.shape == (1024, 1527)
    branches = sum(
        p.numel() for branch in (model.audio, model.visual) for p in branch.encoder.parameters()
    )
    assert 170e6 < branches < 178e6  # AST-base 86 M and ConvNeXt-Base 88 M


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_one_modality_needs_no_other_input(modality: str):
    model = build_model(resolve("demo", parse_set([f"modality={modality}"])))
    mel = torch.randn(2, 256, 128) if modality == "audio" else None
    frames = torch.randn(2, 4, 3, 64, 64) if modality == "visual" else None
    outputs = model(mel, frames)
    assert outputs.scene_logits.shape == (2, 10)
    assert (outputs.event_logits is None, outputs.object_logits is None) == (
        modality == "visual",
        modality == "audio",
    )


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("mode", ["lkm", "rkm"])
def test_training_steps_lower_the_loss(device: str, mode: str):
    torch.manual_seed(0)
    config = resolve("demo", parse_set([*TINY, f"alignment.mode={mode}", "fusion.dropout=0"]))
    model, losses = build_model(config).to(device), build_losses(config)
    inputs = torch.randn(4, 64, 128, device=device), torch.randn(4, 1, 3, 32, 32, device=device)
    events, objects = (torch.randint(0, 2, (4, 64), device=device) for _ in range(2))
    scenes = torch.tensor([0, 3, 9, 3], device=device)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    totals = []
    for _ in range(5):
        generator = torch.Generator().manual_seed(
            0
        )  # on the CPU on every device, so RKM draws the same
        total = losses(model, model(*inputs), events, objects, scenes, generator)["total"]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals == sorted(totals, reverse=True)


def outputs_and_gradients(sets: list[str]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    config = resolve(
        "demo",
        parse_set([*TINY, "audio.depth=2", "alignment.mode=rkm", "fusion.dropout=0.5", *sets]),
    )
    model, losses = build_model(config).train(), build_losses(config)
    generator = torch.Generator().manual_seed(1)
    mel, frames = (
        torch.randn(5, 64, 128, generator=generator),
        torch.randn(5, 2, 3, 32, 32, generator=generator),
    )
    labels = [torch.randint(0, 2, (5, 64), generator=generator) for _ in range(2)]
    torch.manual_seed(2)  # of the dropout
    outputs = model(mel, frames)
    terms = losses(
        model, outputs, *labels, torch.tensor([0, 3, 9, 3, 1]), torch.Generator().manual_seed(0)
    )
    terms["total"].backward()
    return terms["total"].detach(), {
        name: each.grad for name, each in model.named_parameters() if each.grad is not None
    }


@pytest.mark.parametrize(
    "way",
    [
        "compute.micro_batch=1",
        "compute.micro_batch=2",
        "compute.micro_batch=4",
        "compute.checkpointing=true",
        "compute.channels_last=true",
        pytest.param("compute.compile=true", marks=pytest.mark.slow),
    ],
)
def test_how_it_is_computed_changes_nothing(way: str, monkeypatch: pytest.MonkeyPatch):
    """Also with dropout and RKM's draws: both come after the encoders and see the whole batch."""
    if "compile" in way:
        monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)
    total, gradients = outputs_and_gradients([])
    again, others = outputs_and_gradients([way])
    assert torch.allclose(total, again, rtol=1e-5)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(
            gradient, others[name], rtol=1e-3, atol=1e-5 * float(gradient.abs().max() + 1)
        ), name


def test_micro_batches_hold_fewer_activations():
    """What autograd keeps of the encoders, counted in bytes."""

    def kept(sets: list[str]) -> int:
        model = build_model(resolve("demo", parse_set([*TINY, *sets]))).train()
        count = 0

        def note(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            model(torch.randn(8, 64, 128), torch.randn(8, 2, 3, 32, 32))
        return count

    assert kept(["compute.micro_batch=2"]) < 0.5 * kept([])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_leaves_logits_in_float32(precision: str):
    torch.manual_seed(0)
    config = resolve("demo", parse_set([*TINY, f"training.precision={precision}"]))
    model = build_model(config).eval()
    inputs = torch.randn(4, 64, 128), torch.randn(4, 1, 3, 32, 32)
    with torch.no_grad():
        exact = model(*inputs)
        with autocast(config, torch.device("cpu")):
            rounded = model(*inputs)
    for name in ("event_logits", "object_logits", "scene_logits"):
        assert getattr(rounded, name).dtype == torch.float32
        assert torch.allclose(getattr(rounded, name), getattr(exact, name), atol=0.05)
    assert not torch.equal(rounded.scene_logits, exact.scene_logits)


@pytest.mark.parametrize(
    "backbone", ["vit_tiny_patch16_224", "tf_efficientnet_b0", "resnet10t", "mobilenetv3_small_050"]
)
@pytest.mark.parametrize("branch", ["audio", "visual"])
def test_any_timm_backbone_can_stand_in(branch: str, backbone: str):
    config = resolve("demo", parse_set([*TINY, f"{branch}.backbone={backbone}"]))
    model = build_model(config).eval()
    outputs = model(torch.randn(2, 64, 128), torch.randn(2, 1, 3, 32, 32))
    assert outputs.scene_logits.shape == (2, 10)
    assert outputs.event_logits.shape == outputs.object_logits.shape == (2, 64)


def test_an_unknown_backbone_is_a_fault():
    config = resolve("demo", parse_set(["visual.backbone=vit_base_patch99"]))
    with pytest.raises(
        UserError, match=r"visual\.backbone: timm has no model 'vit_base_patch99'; .*vit_"
    ):
        build_model(config)


@pytest.mark.parametrize("policy", ["none", "1", "2", "all"])
@pytest.mark.parametrize("branch", ["audio", "visual"])
def test_freezing(branch: str, policy: str):
    config = resolve("demo", parse_set([*TINY, "audio.depth=3", f"{branch}.freeze={policy}"]))
    model = build_model(config).train()
    backbone = model.branches[branch].encoder.backbone
    free = {name for name, each in backbone.named_parameters() if each.requires_grad}
    stages = "blocks" if branch == "audio" else "stages"
    count = 3 if branch == "audio" else 4
    frozen = {"none": 0, "all": count}.get(policy) if policy in ("none", "all") else int(policy)
    assert {int(name.split(".")[1]) for name in free if name.startswith(stages)} == set(
        range(frozen, count)
    )
    stem = "patch_embed.proj.weight" if branch == "audio" else "stem.0.weight"
    assert (stem in free) == (policy == "none")
    assert [part.training for part in getattr(backbone, stages)] == [
        index >= frozen for index in range(count)
    ]
    other = model.branches["visual" if branch == "audio" else "audio"].encoder
    assert all(each.requires_grad for each in other.parameters())


def test_frozen_batch_statistics_do_not_move():
    model = build_model(
        resolve("demo", parse_set([*TINY, "visual.backbone=resnet10t", "visual.freeze=2"]))
    ).train()
    before = {name: tensor.clone() for name, tensor in model.visual.encoder.state_dict().items()}
    model(torch.randn(4, 64, 128), torch.randn(4, 1, 3, 32, 32))
    moved = {
        name
        for name, tensor in model.visual.encoder.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert moved
    assert {name.split(".")[1] for name in moved if "running" in name} == {"layer3", "layer4"}


def test_too_many_frozen_stages_are_a_fault():
    with pytest.raises(UserError, match=r"visual\.freeze: 9 stages; the backbone has"):
        build_model(resolve("demo", parse_set([*TINY, "visual.freeze=9"])))


@pytest.mark.parametrize("function", [alignment_losses, cross_attention])
def test_the_examples_in_docstrings_run(function: Callable[..., object]):
    """Each function's example, pasted into an empty session."""
    (example,) = doctest.DocTestFinder(recurse=False).find(function, globs={})
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_pieces_of_sound_are_encoded_on_their_own():
    """64 frames in 3 pieces of 21; the frame left over at the end has no effect."""
    sets = ["audio.pieces=3", "audio.pooling=gru", "modality=audio"]
    model = build_model(resolve("demo", parse_set([*TINY, *sets]))).eval()
    branch = model.branches["audio"]
    log_mel = torch.randn(2, 64, 128)
    sequence = branch.encode(log_mel)
    assert sequence.shape == (2, 3, 16)
    for number in range(3):
        piece = log_mel[:, number * 21 : (number + 1) * 21]
        alone = branch.encoder.backbone(piece[:, None].mT)
        assert torch.allclose(sequence[:, number], alone, atol=1e-5)
    cut = torch.cat([log_mel[:, :63], torch.zeros(2, 1, 128)], 1)
    assert torch.equal(branch.encode(cut), sequence)
    assert model(log_mel, None).event_embedding.shape == (2, 16)


def test_one_piece_is_not_pooled():
    log_mel = torch.randn(2, 64, 128)
    results = []
    for sets in (["audio.pieces=1"], ["audio.pooling=mean+max"]):
        torch.manual_seed(0)
        model = build_model(resolve("demo", parse_set([*TINY, *sets, "modality=audio"]))).eval()
        results.append(model(log_mel, None).scene_logits)
    assert torch.equal(*results)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("freeze", ["none", 1])
def test_several_backbones_side_by_side(pooling: str, freeze: str | int):
    names = "[convnext, vit_tiny_patch16_224]"
    sets = [f"visual.backbone={names}", f"visual.pooling={pooling}", f"visual.freeze={freeze}"]
    config = resolve("demo", parse_set([*TINY, *sets, "modality=visual", "pictures.frames=2"]))
    model = build_model(config).eval()
    frames = torch.rand(2, 2, 3, 32, 32)
    encoder = model.branches["visual"].encoder

    # Each backbone sees the pictures in its own colours: 0.5 for timm's ViT.
    first, second = encoder.encoders
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in IMAGENET)
    by_first = first.backbone(((frames - mean) / std).flatten(0, 1)).unflatten(0, (2, 2))
    by_second = second.backbone(((frames - 0.5) / 0.5).flatten(0, 1)).unflatten(0, (2, 2))
    sequence = torch.cat([by_first, by_second], 2)  # (2,2,16+192)
    expected = sequence
    if pooling in FIXED:
        expected = build_pooling(pooling, 208, 2)(sequence)
    assert torch.allclose(encoder((frames - mean) / std), expected, atol=1e-4)
    assert find_encoding_shape(config, "visual") == expected.shape[1:]
    model(None, frames).scene_logits.sum().backward()
    assert not any("factor" in name for name in model.state_dict())  # constants, no weights

    frozen = [not next(each.backbone.parameters()).requires_grad for each in encoder.encoders]
    assert frozen == [freeze == 1, freeze == 1]


@pytest.mark.parametrize("setting", ["compute.micro_batch=2", "compute.checkpointing=true"])
def test_batch_statistics_are_not_computed_in_parts(setting: str):
    def check(*sets: str) -> None:
        config = resolve("demo", parse_set([*TINY, setting, *sets]))
        check_computation(build_model(config), config)

    check()
    check("visual.backbone=resnet10t", "visual.freeze=all")
    check("visual.backbone=vit_tiny_patch16_224")
    key = setting.split("=")[0]
    with pytest.raises(UserError, match=rf"{key}: it changes the numbers of visual\.backbone"):
        check("visual.backbone=resnet10t", "visual.freeze=1")
    with pytest.raises(UserError, match=rf"{key}: it changes the numbers of audio\.backbone"):
        check("audio.backbone=[ast, resnet10t]")


# The combinations of fusion, backbones, pooling and augmentation that Table V compares, in small.
SYSTEMS = {
    "encodings of sound and pictures, early fusion": (
        "fusion.kind=intermediate",
        "audio.backbone=resnet10t",
        "visual.backbone=resnet10t",
    ),
    "recurrent layers over both": (
        "fusion.kind=hybrid",
        "audio.backbone=legacy_seresnet18",
        "visual.backbone=resnet10t",
        "audio.pieces=2",
        "audio.pooling=gru",
        "visual.pooling=gru",
    ),
    "attention over frames, late fusion": (
        "fusion.kind=decision",
        "visual.backbone=tf_efficientnet_b0",
        "visual.pooling=attention",
    ),
    "a transformer over time": (
        "fusion.kind=intermediate",
        "visual.pooling=transformer",
        "audio.pooling=transformer",
        "audio.pieces=4",
    ),
    "a network of pictures and CLIP": (
        "fusion.kind=decision",
        "fusion.decision=class-wise",
        "audio.backbone=resnet10t",
        "visual.backbone=[resnet10t, vit_tiny_patch16_224]",
        "visual.pooling=mean+max",
    ),
    "mixup": ("audio.backbone=resnet10t", "augmentation.mixup=0.2", "visual.freeze=1"),
}


@pytest.mark.parametrize("sets", SYSTEMS.values(), ids=SYSTEMS)
def test_the_systems_of_table_v_train_a_step(sets: tuple[str, ...]):
    torch.manual_seed(0)
    config = resolve("demo", parse_set([*TINY, "pictures.frames=2", *sets]))
    model = build_model(config).train()
    parts = build_training(config, model, steps_per_epoch=1)
    before = {name: each.clone() for name, each in model.named_parameters() if each.requires_grad}
    terms = train_step(parts, make_random_batch(config, 4, torch.device("cpu")))
    assert terms["total"].isfinite()
    for name, parameter in model.named_parameters():
        if name in before and parameter.grad is not None and parameter.grad.any():
            assert not torch.equal(parameter, before[name]), name
    assert any(parameter.grad is not None for parameter in model.parameters())
