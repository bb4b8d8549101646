"""Reference implementations with random weights, and their files in every published layout."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

# The configurations that the two references fit.
AST = ("log_mel.frames=96", "audio.width=24", "audio.depth=2", "audio.heads=3", "audio.stride=10")
CONVNEXT = ("visual.depths=[1, 2, 1, 1]", "visual.dims=[8, 16, 24, 32]")


def reference_ast(frames: int = 96) -> Any:
    """Build Hugging Face's AST with random weights of every kind."""
    import transformers

    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=96,
        max_length=frames,
        num_labels=7,
    )
    model = transformers.ASTForAudioClassification(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    nn.init.normal_(model.classifier.dense.weight, std=2.0)  # or all clips would sound alike
    return model


def authors_names(model: Any) -> dict[str, Tensor]:
    """Return the reference's weights as AST's authors save them.

    They have the names of timm 0.4.5, one projection for q, k and v, and DataParallel's prefix.
    """
    state = model.state_dict()
    renamed: dict[str, Tensor] = {}

    # What stands once: tokens, positions, the patch embedding and the last norm.
    simple = {
        "embeddings.cls_token": "v.cls_token",
        "embeddings.distillation_token": "v.dist_token",
        "embeddings.position_embeddings": "v.pos_embed",
        "embeddings.patch_embeddings.projection": "v.patch_embed.proj",
        "layernorm": "v.norm",
    }
    for published, name in simple.items():
        for key, tensor in state.items():
            short = key.removeprefix("audio_spectrogram_transformer.")
            if short == published or short in (f"{published}.weight", f"{published}.bias"):
                renamed[name + short.removeprefix(published)] = tensor

    # The tagger, ImageNet's two spare heads, and the blocks.
    for part in ("weight", "bias"):
        renamed[f"mlp_head.0.{part}"] = state[f"classifier.layernorm.{part}"]
        renamed[f"mlp_head.1.{part}"] = state[f"classifier.dense.{part}"]
        renamed[f"v.head.{part}"] = torch.zeros(1000, 24) if part == "weight" else torch.zeros(1000)
        renamed[f"v.head_dist.{part}"] = renamed[f"v.head.{part}"].clone()
        for number in range(2):
            layer = f"audio_spectrogram_transformer.layers.{number}."
            block = f"v.blocks.{number}."
            three = [state[f"{layer}attention.{each}_proj.{part}"] for each in "qkv"]
            renamed[f"{block}attn.qkv.{part}"] = torch.cat(three)
            renamed[f"{block}attn.proj.{part}"] = state[f"{layer}attention.o_proj.{part}"]
            renamed[f"{block}norm1.{part}"] = state[f"{layer}layernorm_before.{part}"]
            renamed[f"{block}norm2.{part}"] = state[f"{layer}layernorm_after.{part}"]
            for fc in ("fc1", "fc2"):
                renamed[f"{block}mlp.{fc}.{part}"] = state[f"{layer}mlp.{fc}.{part}"]
    return {f"module.{name}": tensor for name, tensor in renamed.items()}


def save_ast(model: Any, layout: str, folder: Path) -> Path:
    """Save the reference in one of the three layouts; return what to give as weights."""
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "authors":
        torch.save(authors_names(model), folder / "audioset_10_10_0.4593.pth")
        return folder / "audioset_10_10_0.4593.pth"

    model.save_pretrained(folder)  # under the names of the published file
    if layout == "current":
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    # Or both layouts would test the same names.
    names = load_file(folder / "model.safetensors")
    current = [".layers.0.attention.q_proj" in name for name in names if ".0." in name]
    assert (layout == "current") in current
    return folder


def reference_convnext(classes: int = 5) -> ConvNeXt:
    """Build torchvision's ConvNeXt with random weights of every kind."""
    torch.manual_seed(0)
    dims = (8, 16, 24, 32)
    depths = (1, 2, 1, 1)
    settings = [
        CNBlockConfig(width, following, depth)
        for width, following, depth in zip(dims, (*dims[1:], None), depths, strict=True)
    ]
    model = ConvNeXt(settings, num_classes=classes).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    nn.init.normal_(model.classifier[2].weight, std=2.0)
    return model
