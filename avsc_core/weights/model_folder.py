"""A trained model on disk: `model.safetensors` (tensors) and `model.json` (configuration and what belongs to it).

Nothing is pickled, so a model folder from elsewhere can carry numbers but no code.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from avsc_core import __version__
from avsc_core.config import Config
from avsc_core.errors import Fault, UserError
from avsc_core.files import atomic_path, write_json
from avsc_core.model.network import AudioVisualNet, build_model
from avsc_core.weights.pretrained import set_norm_eps

TENSORS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 1


def save_model(folder: Path, model: AudioVisualNet, config: Config, extra: dict[str, Any]) -> None:
    """Write a model folder; `extra` is whatever JSON belongs to the model. The description comes last."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    with atomic_path(folder / TENSORS) as temporary:
        save_file(tensors, temporary)
    description = {
        "format": FORMAT,
        "avsc": __version__,
        "config": config.model_dump(mode="json"),
        "extra": extra,
    }
    write_json(folder / DESCRIPTION, description | {"norm_eps": read_norm_eps(model)})


def load_model(folder: Path, device: str = "cpu") -> tuple[AudioVisualNet, Config, dict[str, Any]]:
    """(model in evaluation mode, its configuration, `extra`).

    Raises UserError when files are missing or unreadable, or tensors do not belong to the configuration.
    """
    missing = [name for name in (DESCRIPTION, TENSORS) if not (folder / name).is_file()]
    if missing:
        raise UserError(
            Fault(
                str(folder), f"no {' and no '.join(missing)}", "a folder that avsc saved a model in"
            )
        )
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            found = f"format {description['format']}"
            raise UserError(
                Fault(str(folder / DESCRIPTION), found, f"avsc {__version__} reads format {FORMAT}")
            )
        config, extra = Config.model_validate(description["config"]), description["extra"]
        tensors = load_file(folder / TENSORS, device=device)
    except (ValueError, KeyError, TypeError, ValidationError, SafetensorError) as error:
        raise UserError(Fault(str(folder), f"not a model folder ({error})")) from None
    # Where it was pretrained does not matter any more, and that file need not be here.
    model = build_model(config).to(device)
    for name, eps in description.get("norm_eps", {}).items():
        set_norm_eps(model.branches[name], eps)
    faults = [Fault(str(folder / TENSORS), text) for text in _mismatches(model, tensors)]
    if faults:
        raise UserError(faults)
    model.load_state_dict(tensors)
    return model.eval(), config, extra


def read_norm_eps(model: AudioVisualNet) -> dict[str, float]:
    """Branch -> the LayerNorm epsilon that its encoder took over from pretrained weights."""
    layers = {
        name: {each.eps for each in branch.modules() if isinstance(each, nn.LayerNorm)}
        for name, branch in model.branches.items()
    }
    return {name: found.pop() for name, found in layers.items() if len(found) == 1}


def _mismatches(model: AudioVisualNet, tensors: dict[str, Any]) -> list[str]:
    """Every tensor that is missing, of another shape, or not of this model."""
    wanted = model.state_dict()
    faults = [f"tensor {name} is missing" for name in wanted if name not in tensors]
    faults += [f"tensor {name} is not of this model" for name in tensors if name not in wanted]
    faults += [
        f"tensor {name} has shape {tuple(tensors[name].shape)}; {tuple(tensor.shape)} in its configuration"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    return faults
