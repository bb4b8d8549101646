"""Published checkpoints in every layout against reference implementations, and all their faults."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from avsc_core.config import Config
from avsc_core.errors import EnvironmentFault, UserError
from avsc_core.model import build_model
from avsc_core.resolve import find_random_branches, parse_set, resolve, trial_key
from avsc_core.weights.model_folder import read_model_folder, write_model_folder
from avsc_core.weights.pretrained import check_pretrained, load_pretrained, set_norm_eps
from avsc_core.weights.sources import locate
from tests.builders.configs import TINY
from tests.builders.weights import AST, CONVNEXT, reference_ast, reference_convnext, save_ast

transformers = pytest.importorskip("transformers")


def configured(*sets: str) -> Config:
    return resolve("demo", parse_set([*TINY, *sets]))


@pytest.mark.parametrize("layout", ["authors", "published", "current"])
def test_ast_in_every_layout(layout: str, tmp_path: Path):
    reference = reference_ast()
    if layout == "authors":  # whose code has another epsilon than Hugging Face's
        for module in reference.audio_spectrogram_transformer.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6
    config = configured(*AST, f"audio.weights={save_ast(reference, layout, tmp_path / 'ast')}")
    model = build_model(config).eval()
    (account,) = load_pretrained(model, config)
    assert account.norm_eps == (1e-6 if layout == "authors" else 1e-12)
    assert len(account.taken) == 2 * 12 + 7  # blocks, tokens, positions, patches, norm
    spare = {f"imagenet_{head}" for head in ("head", "head_dist")} if layout == "authors" else set()
    parts = ("weight", "bias")
    assert set(account.dropped) == {
        f"{layer}.{part}" for layer in {"head.norm", "head.fc"} | spare for part in parts
    }
    assert set(account.new) == {
        f"audio.{layer}.{part}" for layer in ("classifier", "embed.0") for part in parts
    }
    mel = 3 * torch.randn(3, 96, 128)
    with torch.inference_mode():
        expected = reference.audio_spectrogram_transformer(mel).pooler_output
        assert torch.allclose(model.audio.encoder(mel), expected, atol=1e-5)
        tagger = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 7))
        assert not torch.allclose(tagger(expected), reference(mel).logits)


def test_the_published_counts(tmp_path: Path):
    """159 tensors of the authors, 203 of Hugging Face, 344 of ConvNeXt, all with a place."""
    from avsc_core.weights.layouts import from_authors, from_hugging_face, from_torchvision

    with torch.device("meta"):
        big = transformers.ASTForAudioClassification(transformers.ASTConfig(num_labels=527))
        ours = build_model(resolve("paper"))
        torchvision = __import__("torchvision").models.convnext_base()
    names = big.state_dict()
    assert len(names) == 203
    renamed = from_hugging_face({name: torch.zeros(1) for name in names})
    backbone = ours.audio.encoder.backbone.state_dict()
    assert set(renamed) - set(backbone) == {
        f"head.{layer}.{part}" for layer in ("norm", "fc") for part in ("weight", "bias")
    }
    assert set(backbone) <= set(renamed)
    authors = [f"module.v.{name}" for name in backbone] + [
        f"module.v.head{s}.{p}" for s in ("", "_dist") for p in ("weight", "bias")
    ]
    authors += [f"module.mlp_head.{layer}.{part}" for layer in "01" for part in ("weight", "bias")]
    assert len(authors) == 159
    assert set(backbone) <= set(from_authors({name: torch.zeros(1) for name in authors}))
    theirs = torchvision.state_dict()
    assert len(theirs) == 344
    found = from_torchvision(theirs)
    wanted = {
        name: tensor.shape
        for name, tensor in timm.create_model("convnext_base").state_dict().items()
    }
    assert {name: tensor.shape for name, tensor in found.items()} == wanted


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
def test_convnext_in_both_layouts_bit_for_bit(layout: str, tmp_path: Path):
    from avsc_core.weights.layouts import from_torchvision

    reference = reference_convnext()
    tensors = (
        reference.state_dict()
        if layout == "torchvision"
        else from_torchvision(reference.state_dict())
    )
    torch.save(tensors, tmp_path / "convnext.pth")
    config = configured(*CONVNEXT, f"visual.weights={tmp_path / 'convnext.pth'}")
    model = build_model(config).eval()
    (account,) = load_pretrained(model, config)
    assert (len(account.taken), account.dropped) == (
        len(tensors) - 2,
        ["head.fc.weight", "head.fc.bias"],
    )
    assert account.sha256 == hashlib.sha256((tmp_path / "convnext.pth").read_bytes()).hexdigest()
    loaded = model.visual.encoder.backbone.state_dict()
    for name, tensor in from_torchvision(reference.state_dict()).items():
        assert name.startswith("head.fc") or torch.equal(loaded[name], tensor), name
    frames = torch.randn(2, 3, 3, 64, 64)
    with torch.no_grad():
        features = reference.classifier[:2](
            reference.avgpool(reference.features(frames.flatten(0, 1)))
        )  # (6,32)
        expected = features.unflatten(0, (2, 3)).mean(1)
        assert torch.allclose(model.visual.encoder(frames), expected, atol=1e-4)


@pytest.mark.parametrize(("frames", "patches"), [(98, 9), (56, 5), (206, 20)])
def test_position_embeddings_of_other_durations(frames: int, patches: int, tmp_path: Path):
    """As the authors do: the grid's centre for shorter clips, interpolation for longer ones."""
    reference = reference_ast(frames=128)  # 12 x 12 patches
    source = save_ast(reference, "published", tmp_path / "ast")
    config = configured(*AST, f"log_mel.frames={frames}", f"audio.weights={source}")
    model = build_model(config)
    (account,) = load_pretrained(model, config)
    assert account.adapted == ["pos_embed"]
    found = model.audio.encoder.backbone.pos_embed[0]
    theirs = reference.audio_spectrogram_transformer.embeddings.position_embeddings[0]
    assert torch.equal(found[:2], theirs[:2])
    grid, old = found[2:].reshape(12, patches, 24), theirs[2:].reshape(12, 12, 24)
    if patches < 12:
        start = 6 - patches // 2
        assert torch.equal(grid, old[:, start : start + patches])
    else:
        for patch in range(patches):
            place = min(max((patch + 0.5) * 12 / patches - 0.5, 0), 11)
            low = int(place)
            high = min(low + 1, 11)
            expected = old[:, low] * (1 - (place - low)) + old[:, high] * (place - low)
            assert torch.allclose(grid[:, patch], expected, atol=1e-5)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "tf_efficientnet_b0", "resnet10t"])
def test_timm_weights_for_the_audio_branch(backbone: str, tmp_path: Path):
    """Three colours become one channel, and a classifier is dropped, by timm's own conversions."""
    torch.manual_seed(0)
    source = timm.create_model(backbone, num_classes=4)
    save_file(
        {name: tensor.contiguous() for name, tensor in source.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    config = configured(f"audio.backbone={backbone}", f"audio.weights={tmp_path / 'w.safetensors'}")
    model = build_model(config)
    (account,) = load_pretrained(model, config)
    first = source.pretrained_cfg["first_conv"] + ".weight"
    assert first in account.adapted
    assert all(name.startswith(source.pretrained_cfg["classifier"]) for name in account.dropped)
    assert len(account.dropped) == 2
    loaded = model.audio.encoder.backbone.state_dict()
    assert torch.allclose(loaded[first].sum(1), source.state_dict()[first].sum(1), atol=1e-5)


def test_a_saved_model_keeps_the_epsilon_without_the_source(tmp_path: Path):
    source = save_ast(reference_ast(), "published", tmp_path / "ast")
    config = configured(*AST, f"audio.weights={source}")
    model = build_model(config).eval()
    load_pretrained(model, config)
    write_model_folder(tmp_path / "model", model, config, {})
    (source / "model.safetensors").unlink()
    again, _, _ = read_model_folder(tmp_path / "model")
    mel = 1e-4 * torch.randn(2, 96, 128)  # small enough for an epsilon of 1e-6 to show
    with torch.inference_mode():
        assert torch.equal(again.audio.encoder(mel), model.audio.encoder(mel))


def test_the_key_knows_the_content_not_the_path(tmp_path: Path):
    for place in ("a", "b"):
        save_ast(reference_ast(), "published", tmp_path / place)
    keys = [
        trial_key(configured(*AST, f"audio.weights={tmp_path / place}")) for place in ("a", "b")
    ]
    assert keys[0] == keys[1] != trial_key(configured(*AST))
    file = tmp_path / "b" / "model.safetensors"
    tensors = load_file(file)
    tensors["classifier.dense.bias"] += 1
    save_file(tensors, file)
    assert trial_key(configured(*AST, f"audio.weights={tmp_path / 'b'}")) != keys[0]


def faults(config: Config) -> list[str]:
    with pytest.raises(UserError) as caught:
        check_pretrained(config)
    return [re.sub(r"/\S*/", "/", str(fault)) for fault in caught.value.faults]


def test_what_does_not_fit_is_named_with_its_shapes(tmp_path: Path):
    source = save_ast(reference_ast(), "published", tmp_path / "ast")
    assert faults(configured(*AST, f"audio.weights={source}", "audio.width=12"))[:1] == [
        "audio.weights /model.safetensors: tensor cls_token has shape (1, 1, 24); "
        "(1, 1, 12) in the configuration"
    ]
    deeper = faults(configured(*AST, f"audio.weights={source}", "audio.depth=3"))
    assert deeper[0].endswith("the file has no tensor blocks.2.norm1.weight, which the model needs")
    assert deeper[-1].endswith("... and 6 more like it")
    shallower = faults(configured(*AST, f"audio.weights={source}", "audio.depth=1"))
    assert "tensor blocks.1." in shallower[0]
    assert "is not one of the model's" in shallower[0]
    assert faults(configured(*AST, f"audio.weights={source}", "audio.heads=4")) == [
        "/config.json: the model has 3 attention heads; audio.heads is 4; set audio.heads to 3"
    ]
    torch.save(reference_convnext().state_dict(), tmp_path / "c.pth")
    wrong = faults(
        configured(*CONVNEXT, "visual.dims=[8, 16, 24, 40]", f"visual.weights={tmp_path / 'c.pth'}")
    )
    assert (
        "tensor stages.3.blocks.0.norm.weight has shape (32,); (40,) in the configuration"
        in "\n".join(wrong)
    )


def test_both_branches_faults_at_once(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    torch.save({"epoch": 3}, tmp_path / "no.pth")
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "foreign.pth")
    (tmp_path / "rubbish.safetensors").write_bytes(b"rubbish")
    for audio, expected in {
        "nowhere.pth": "does not exist; a file, a folder or hf-hub:OWNER/NAME@COMMIT; "
        "download the checkpoint",
        "empty": "no weight file in ",
        "no.pth": "holds no state dict",
        "foreign.pth": "is not a checkpoint of ast (it begins with a.weight); "
        "the authors' file or Hugging Face's",
        "rubbish.safetensors": "holds no tensors that can be read safely",
    }.items():
        lines = faults(
            configured(
                f"audio.weights={tmp_path / audio}", f"visual.weights={tmp_path / 'foreign.pth'}"
            )
        )
        assert len(lines) == 2
        assert expected in lines[0]
        assert "is not a checkpoint of convnext" in lines[1]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("executed"),)


def test_a_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"stem.0.weight": torch.zeros(1), "x": Evil()}, tmp_path / "evil.pth")
    assert (
        "the file has objects besides tensors (getattr), which could run code"
        in faults(configured(f"visual.weights={tmp_path / 'evil.pth'}"))[0]
    )
    assert not (tmp_path / "executed").exists()


def test_sources_are_checked_without_torch():
    """A study file is checked at once, and importing torch takes seconds."""
    code = "import sys, avsc_core.weights.sources; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_holds_one_checkpoint(tmp_path: Path):
    for name in ("a.pth", "b.pth"):
        torch.save({}, tmp_path / name)
    with pytest.raises(UserError, match="2 weight files in"):
        locate(str(tmp_path), "audio.weights")
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert locate(str(tmp_path), "audio.weights").name == "model.safetensors"


def test_the_hub_needs_a_commit_and_a_network(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        UserError, match="'hf-hub:MIT/ast@main' is not pinned; hf-hub:OWNER/NAME@COMMIT"
    ):
        locate("hf-hub:MIT/ast@main", "audio.weights")
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def offline(*arguments: Any, **options: Any) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(EnvironmentFault) as caught:
        locate("hf-hub:MIT/ast@" + "0" * 40, "audio.weights")
    assert "put model.safetensors and config.json of MIT/ast at 000" in str(caught.value)


def test_the_account_is_json(tmp_path: Path):
    torch.save(reference_convnext().state_dict(), tmp_path / "c.pth")
    (account,) = check_pretrained(configured(*CONVNEXT, f"visual.weights={tmp_path / 'c.pth'}"))
    assert json.loads(json.dumps(account._asdict()))["layout"] == "ConvNeXt torchvision"


def test_several_backbones_each_with_its_own_weights(tmp_path: Path):
    """Torchvision's ConvNeXt from its file, a ResNet of timm from its own, and one at random."""
    torch.save(reference_convnext().state_dict(), tmp_path / "convnext.pth")
    resnet = timm.create_model("resnet10t", num_classes=3)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    sources = f"[{tmp_path}/convnext.pth, {tmp_path}/resnet.pth, null]"
    names = "[convnext, resnet10t, resnet10t]"
    sets = [*CONVNEXT, f"visual.backbone={names}", f"visual.weights={sources}", "modality=visual"]
    config = resolve("demo", parse_set(sets))

    model = build_model(config)
    accounts = load_pretrained(model, config)
    assert [account.layout for account in accounts] == ["ConvNeXt torchvision", "timm resnet10t"]
    assert [account.branch for account in accounts] == ["visual", "visual"]
    _, timms, random = model.branches["visual"].encoder.encoders
    for name, tensor in timms.backbone.state_dict().items():
        assert torch.equal(tensor, resnet.state_dict()[name])
    assert any("encoders.2.backbone.conv1" in name for name in accounts[0].new)
    assert not any("encoders.1.backbone" in name for name in accounts[0].new)
    assert not torch.equal(random.backbone.conv1[0].weight, timms.backbone.conv1[0].weight)
    assert find_random_branches(config) == ["visual"]

    # Two files that do not fit are named together; the key knows their content and order.
    swapped = f"[{tmp_path}/resnet.pth, {tmp_path}/convnext.pth, null]"
    other = resolve("demo", parse_set([*sets, f"visual.weights={swapped}"]))
    assert trial_key(other) != trial_key(config)
    with pytest.raises(UserError) as caught:
        check_pretrained(other)
    places = {str(fault).split(":")[0] for fault in caught.value.faults}
    assert f"visual.weights[1] {tmp_path}/convnext.pth" in places


@pytest.mark.parametrize(
    ("backbone", "pieces"), [("convnext_atto", 5), ("vgg11", 10), ("[ast, convnext_atto]", 4)]
)
def test_pieces_too_short_for_a_backbone_are_a_fault(backbone: str, pieces: int):
    """These are built for any input; what they cannot take shows when they run."""
    sets = ["log_mel.frames=100", f"audio.backbone={backbone}", f"audio.pieces={pieces}"]
    what = rf"audio\.pieces: \w+ does not take pieces of {100 // pieces} frames \(.+\); fewer"
    with pytest.raises(UserError, match=what):
        check_pretrained(configured(*sets))
    check_pretrained(configured(*sets, "audio.pieces=3"))
    check_pretrained(configured(*sets, "modality=visual"))


def test_a_saved_model_keeps_the_epsilon_of_each_backbone(tmp_path: Path):
    names = "[convnext, vit_tiny_patch16_224]"
    sets = [*TINY, f"visual.backbone={names}", "visual.pooling=transformer", "modality=visual"]
    config = resolve("demo", parse_set(sets))
    model = build_model(config)
    branch = model.branches["visual"]
    set_norm_eps(branch.encoder.encoders[0], 1e-3)
    write_model_folder(tmp_path / "model", model, config, {})
    loaded = read_model_folder(tmp_path / "model")[0].branches["visual"]
    assert {
        layer.eps
        for layer in loaded.encoder.encoders[0].modules()
        if isinstance(layer, nn.LayerNorm)
    } == {1e-3}
    assert loaded.encoder.encoders[1].backbone.norm.eps == 1e-6
    assert loaded.pool.encoder_layers.norm.eps == 1e-5
