"""Tensors are found in whatever training scripts wrap around them, and nothing else is read."""

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from avsc_core.errors import UserError
from avsc_core.weights.published import read_published
from avsc_core.weights.sources import hash_source, locate
from avsc_core.weights.unwrapping import read_tensors
from tests.builders.weights import authors_names, reference_ast, reference_convnext

MODEL = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
STATE = MODEL.state_dict()
AVERAGE = {name: tensor + 1 for name, tensor in STATE.items()}


def prefixed(word: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {word + name: tensor for name, tensor in state.items()}


# What scripts save -> the tensors in it, and the word for an average that was taken.
FILES: dict[str, tuple[object, dict[str, Tensor], str]] = {
    "as it is": (STATE, STATE, ""),
    "model and optimizer": ({"model": STATE, "optimizer": {"state": {}}, "epoch": 3}, STATE, ""),
    "state_dict": ({"state_dict": STATE}, STATE, ""),
    "model_state_dict": ({"model_state_dict": STATE, "loss": 0.5}, STATE, ""),
    "one in another": ({"state": 1, "net": {"state_dict": STATE}}, STATE, ""),
    "DataParallel": (nn.DataParallel(MODEL).state_dict(), STATE, ""),
    "torch.compile": (torch.compile(MODEL).state_dict(), STATE, ""),
    "Lightning": ({"state_dict": prefixed("model."), "epoch": 3}, STATE, ""),
    "compiled in parallel": (prefixed("module._orig_mod."), STATE, ""),
    "torchvision's reference": ({"model": STATE, "model_ema": AVERAGE}, AVERAGE, "model_ema"),
    "timm's averages": (
        {"state_dict": STATE, "state_dict_ema": AVERAGE},
        AVERAGE,
        "state_dict_ema",
    ),
    "torch_ema": (
        {"state_dict": STATE, "ema": {"decay": 0.9, "num_updates": 3, "shadow_params": [1]}},
        STATE,
        "",
    ),
    "a counter called ema": ({"model": STATE, "ema": {"n": torch.zeros(1)}}, STATE, ""),
    "an empty average": ({"model": STATE, "model_ema": {}}, STATE, ""),
    "an average in another": ({"model": STATE, "ema": {"module": AVERAGE}}, AVERAGE, "ema"),
    "torch's average": ({"model_ema": AveragedModel(MODEL).state_dict()}, STATE, "model_ema"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_scripts_wrap_around_is_taken_off(tmp_path: Path, name: str):
    content, expected, taken = FILES[name]
    torch.save(content, tmp_path / "w.pth")
    found = read_tensors(tmp_path / "w.pth")
    assert set(found.tensors) == set(expected)
    assert all(torch.equal(found.tensors[key], expected[key]) for key in expected)
    assert found.taken == taken


def test_a_word_before_some_names_stays(tmp_path: Path):
    names = {"model.a": torch.zeros(1), "b": torch.zeros(1)}
    torch.save(names, tmp_path / "w.pth")
    assert set(read_tensors(tmp_path / "w.pth").tensors) == set(names)


@pytest.mark.parametrize("kind", ["ast", "convnext"])
@pytest.mark.parametrize("word", ["module.", "_orig_mod.", "model.", "module.model."])
def test_both_branches_take_them_alike(tmp_path: Path, kind: str, word: str):
    states: dict[str, Callable[[], dict[str, Tensor]]] = {
        "ast": lambda: authors_names(reference_ast()),
        "convnext": lambda: reference_convnext().state_dict(),
    }
    state = states[kind]()
    torch.save(state, tmp_path / "plain.pth")
    plain = read_published(kind, str(tmp_path / "plain.pth"), "weights")
    torch.save({"state_dict_ema": prefixed(word, state)}, tmp_path / "wrapped.pth")
    wrapped = read_published(kind, str(tmp_path / "wrapped.pth"), "weights")
    assert set(wrapped.tensors) == set(plain.tensors)
    # What was taken stands in the study's document.
    assert wrapped.layout == f"{plain.layout}, averaged over the training (state_dict_ema)"


def test_other_objects_are_named_and_how_to_save_without(tmp_path: Path):
    content = {"model": STATE, "args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        read_tensors(tmp_path / "w.pth")
    assert str(caught.value) == (
        f"{tmp_path}/w.pth: the file has objects besides tensors (argparse.Namespace), which could"
        " run code; where it was made, save the tensors alone: torch.save(model.state_dict(), FILE)"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 3, "name": "x"}, "int, str"),
        ([1, 2], "list"),
        ({}, "nothing"),
        ({0: torch.zeros(1)}, "Tensor"),
        (torch.zeros(1), "Tensor"),
    ],
)
def test_what_is_there_instead_is_said(tmp_path: Path, content: object, told: str):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=f"holds no state dict, but {told};"):
        read_tensors(tmp_path / "w.pth")


def test_a_file_of_the_hub_by_its_own_name(tmp_path: Path):
    """The hub's cache keeps files under their hashes, without an ending."""
    path = tmp_path / ("0" * 64)
    save_file(STATE, path)
    assert set(read_tensors(path).tensors) == set(STATE)
    torch.save(STATE, path)
    assert set(read_tensors(path).tensors) == set(STATE)


def save_sharded(folder: Path, **changes: object) -> Path:
    """Save the state in two files and an index, as large models are."""
    weight_map = {}
    for number, (name, tensor) in enumerate(STATE.items(), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensor}, folder / file)
        weight_map[name] = file
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map | changes}))
    return index


def test_a_model_in_several_files(tmp_path: Path):
    index = save_sharded(tmp_path)
    assert locate(str(tmp_path), "weights") == index
    assert set(read_tensors(index).tensors) == set(STATE)
    # The hash is of all files.
    before = hash_source(str(tmp_path))
    save_file({"0.bias": torch.ones(3)}, tmp_path / "model-00002-of-00002.safetensors")
    assert hash_source(str(tmp_path)) != before


@pytest.mark.parametrize("name", ["absent.safetensors", "../w.safetensors", "/w.safetensors"])
def test_an_index_names_files_beside_it(tmp_path: Path, name: str):
    index = save_sharded(tmp_path, **{"0.bias": name})
    told = f"names {name}, which is not a file beside it; download all of them"
    with pytest.raises(UserError, match=re.escape(told)):
        read_tensors(index)
    assert hash_source(str(index)) == str(index)  # as of any file that is not there


def test_an_index_that_is_none(tmp_path: Path):
    index = tmp_path / "model.safetensors.index.json"
    maps = ('{"weight_map": 3}', '{"weight_map": {"a": 3, "b": "w"}}', '{"weight_map": [1]}')
    for text in ("{}", "[]", "no JSON", *maps):
        index.write_text(text)
        with pytest.raises(UserError, match="is not an index of safetensors files"):
            read_tensors(index)
