"""The branches against reference implementations with the same random weights."""

import pytest
import torch
from torch import Tensor

from avsc_core.config import parse_set, resolve
from avsc_core.model import build_model
from avsc_core.model.audio import AudioBranch
from avsc_core.model.losses import build_losses
from avsc_core.model.visual import POOLINGS, VisualBranch
from tests.conftest import TINY


def test_the_audio_branch_is_hugging_faces_ast():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, max_length=96,
        layer_norm_eps=1e-6,
    )  # fmt: skip
    reference = transformers.ASTModel(config).eval()
    branch = AudioBranch(96, width=24, depth=2, heads=3, patch=16, stride=10, embedding=8, classes=5).eval()
    theirs = reference.state_dict()
    for name in ("cls_token", "distillation_token", "position_embeddings"):
        torch.nn.init.normal_(theirs[f"embeddings.{name}"], std=0.5)
    reference.load_state_dict(theirs)
    branch.backbone.load_state_dict(from_hugging_face(theirs))
    mel = torch.randn(2, 96, 128)
    with torch.inference_mode():
        tokens = branch.backbone.forward_features(mel[:, None].mT)
        expected = reference(mel)
    assert torch.allclose(tokens, expected.last_hidden_state, atol=1e-5)
    assert torch.allclose((tokens[:, 0] + tokens[:, 1]) / 2, expected.pooler_output, atol=1e-5)


def from_hugging_face(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The reference's weights under timm's names."""
    ours = {
        "cls_token": theirs["embeddings.cls_token"],
        "dist_token": theirs["embeddings.distillation_token"],
        "pos_embed": theirs["embeddings.position_embeddings"],
        "patch_embed.proj.weight": theirs["embeddings.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": theirs["embeddings.patch_embeddings.projection.bias"],
        "norm.weight": theirs["layernorm.weight"],
        "norm.bias": theirs["layernorm.bias"],
    }
    layers = [
        name.rsplit(".layernorm_before.weight", 1)[0] for name in theirs if name.endswith("layernorm_before.weight")
    ]
    for number, layer in enumerate(layers):
        own = {name[len(layer) + 1 :]: tensor for name, tensor in theirs.items() if name.startswith(f"{layer}.")}

        def one(*endings: str, own: dict[str, Tensor] = own) -> Tensor:
            return next(tensor for name, tensor in own.items() if name.endswith(endings))

        for part in ("weight", "bias"):
            block = f"blocks.{number}"
            parts = [
                one(f"query.{part}", f"q_proj.{part}"),
                one(f"key.{part}", f"k_proj.{part}"),
                one(f"value.{part}", f"v_proj.{part}"),
            ]
            ours[f"{block}.attn.qkv.{part}"] = torch.cat(parts)
            ours[f"{block}.attn.proj.{part}"] = one(f"attention.output.dense.{part}", f"o_proj.{part}")
            ours[f"{block}.norm1.{part}"] = one(f"layernorm_before.{part}")
            ours[f"{block}.norm2.{part}"] = one(f"layernorm_after.{part}")
            ours[f"{block}.mlp.fc1.{part}"] = one(f"intermediate.dense.{part}", f"fc1.{part}")
            dense = [name for name in own if name in (f"output.dense.{part}", f"mlp.fc2.{part}")]
            ours[f"{block}.mlp.fc2.{part}"] = own[dense[0]]
    return ours


def test_the_visual_branch_is_torchvisions_convnext():
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    torch.manual_seed(0)
    dims, depths = (8, 16, 24, 32), (1, 2, 1, 1)
    settings = [
        CNBlockConfig(width, following, depth)
        for width, following, depth in zip(dims, (*dims[1:], None), depths, strict=True)
    ]
    reference = ConvNeXt(settings, num_classes=3).eval()
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    branch = VisualBranch(depths, dims, "mean", embedding=8, classes=5).eval()
    theirs = [tensor for name, tensor in reference.state_dict().items() if not name.startswith("classifier.2")]
    ours = branch.backbone.state_dict()
    assert len(ours) == len(theirs)
    # Both list their tensors in the order of the data's way, but torchvision names a block's layer scale first.
    branch.backbone.load_state_dict(matched(ours, reference.state_dict()))
    frames = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        features = reference.classifier[:2](reference.avgpool(reference.features(frames.flatten(0, 1))))  # (6,32)
        expected = branch.embed(features.unflatten(0, (2, 3)).mean(1))
        embedding, logits = branch(frames)
    assert torch.allclose(embedding, expected, atol=1e-4)
    assert torch.allclose(logits, branch.classifier(expected), atol=1e-4)


def matched(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's tensors under timm's names."""
    block = {
        "gamma": "layer_scale", "conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5",
    }  # fmt: skip
    result = {}
    for name, tensor in ours.items():
        if name.startswith("stem."):
            source = name.replace("stem.", "features.0.")
        elif name.startswith("head.norm."):
            source = name.replace("head.norm.", "classifier.0.")
        else:
            _, stage, rest = name.split(".", 2)
            if rest.startswith("downsample."):
                source = f"features.{2 * int(stage)}.{rest.removeprefix('downsample.')}"
            else:
                _, number, layer = rest.split(".", 2)
                own = next(key for key in block if layer.startswith(key))
                source = f"features.{2 * int(stage) + 1}.{number}.{layer.replace(own, block[own], 1)}"
        result[name] = theirs[source].reshape(tensor.shape)
    return result


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_over_frames(pooling: str):
    torch.manual_seed(0)
    branch = VisualBranch((1, 1, 1, 1), (8, 8, 8, 8), pooling, embedding=4, classes=3).eval()
    frames = torch.randn(2, 3, 3, 32, 32)
    shuffled = branch(frames[:, [2, 0, 1]])[1]
    assert torch.allclose(branch(frames)[1], shuffled, atol=1e-5)
    assert not torch.allclose(branch(frames)[1], branch(frames[:, :1])[1], atol=1e-3)


def test_the_papers_sizes():
    """The model of preset paper, without memory for its weights."""
    with torch.device("meta"):
        model = build_model(resolve("paper"))
    assert model.audio is not None
    assert model.visual is not None
    assert model.audio.backbone.pos_embed.shape == (1, 1214, 768)  # 12 x 101 patches, cls and dist
    assert model.audio.classifier.weight.shape == (527, 1024)
    assert model.visual.classifier.weight.shape == (1000, 1024)
    assert model.fusion_layer.layers[0].weight.shape == (1024, 1527)
    branches = sum(p.numel() for branch in (model.audio, model.visual) for p in branch.backbone.parameters())
    assert 170e6 < branches < 178e6  # AST-base 86 M and ConvNeXt-Base 88 M


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_one_modality_needs_no_other_input(modality: str):
    model = build_model(resolve("demo", parse_set([f"modality={modality}"])))
    mel = torch.randn(2, 256, 128) if modality == "audio" else None
    frames = torch.randn(2, 4, 3, 64, 64) if modality == "visual" else None
    outputs = model(mel, frames)
    assert outputs.scene_logits.shape == (2, 10)
    assert (outputs.event_logits is None, outputs.object_logits is None) == (modality == "visual", modality == "audio")


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
        generator = torch.Generator().manual_seed(0)  # on the CPU on every device, so RKM draws the same
        total = losses(model, model(*inputs), events, objects, scenes, generator)["total"]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals == sorted(totals, reverse=True)
