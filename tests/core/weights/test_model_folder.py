"""Model folders: bit for bit there and back, nothing pickled, clear faults."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from avsc_core import __version__
from avsc_core.config import Config
from avsc_core.errors import UserError
from avsc_core.model import build_model
from avsc_core.weights.model_folder import read_model_folder, write_model_folder


@pytest.fixture
def folder(tmp_path: Path, tiny: Config) -> Path:
    torch.manual_seed(0)
    write_model_folder(tmp_path / "model", build_model(tiny), tiny, {"scale": [1.5, 2.5]})
    return tmp_path / "model"


def test_there_and_back(folder: Path, tiny: Config):
    torch.manual_seed(0)
    original = build_model(tiny)
    model, config, extra = read_model_folder(folder)
    assert config == tiny
    assert extra == {"scale": [1.5, 2.5]}
    assert not model.training
    for name, tensor in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_faults(folder: Path):
    def fault() -> str:
        with pytest.raises(UserError) as caught:
            read_model_folder(folder)
        return str(caught.value).replace(str(folder), "FOLDER")

    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["fusion.layer.layers.3.bias"] = torch.zeros(11)
    tensors["extra"] = tensors.pop("audio.classifier.bias")
    save_file(tensors, path)
    assert fault().splitlines() == [
        "FOLDER/model.safetensors: the file has no tensor audio.classifier.bias, "
        "which the model needs",
        "FOLDER/model.safetensors: tensor extra (64,) is not one of the model's",
        "FOLDER/model.safetensors: tensor fusion.layer.layers.3.bias has shape (11,); "
        "(10,) in the configuration",
    ]
    path.write_bytes(b"rubbish")
    assert fault().startswith("FOLDER: this is not a model folder (")
    (folder / "model.json").write_text(
        json.dumps({"config": {"alignment": {"k": -1}}, "extra": {}})
    )
    assert fault().startswith("FOLDER: this is not a model folder (")
    description = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(description | {"format": 2}))
    assert fault() == (
        f"FOLDER/model.json: the model folder has format 2; avsc {__version__} reads format 1"
    )
    path.unlink()
    assert fault() == (
        "FOLDER: the folder has no model.safetensors; a folder that avsc saved a model in"
    )
