"""A trained model on disk: `model.safetensors` holds its tensors, `model.json` everything else.

`model.json` holds the format's number, the version of avsc, the configuration, what the caller adds
(`extra`), and the LayerNorm epsilons. Nothing is pickled, so a model folder from elsewhere can run
no code.
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
from avsc_core.errors import make_error
from avsc_core.files import atomic_path, write_json
from avsc_core.model.branch import name_backbones
from avsc_core.model.network import AudioVisualNet, build_model
from avsc_core.resolve import read_recorded
from avsc_core.weights.pretrained import check_tensors, set_norm_eps

TENSORS = "model.safetensors"
DESCRIPTION = "model.json"
FORMAT = 1


def write_model_folder(
    folder: Path, model: AudioVisualNet, config: Config, extra: dict[str, Any]
) -> None:
    """Write a model folder; `extra` is any JSON that belongs to the model."""
    state = model.state_dict().items()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state}
    with atomic_path(folder / TENSORS) as temporary:
        save_file(tensors, temporary)

    # The description comes last: a folder that has it is complete.
    description = {
        "format": FORMAT,
        "avsc": __version__,
        "config": config.model_dump(mode="json"),
        "extra": extra,
        "norm_eps": read_norm_eps(model),
    }
    write_json(folder / DESCRIPTION, description)


def read_model_folder(
    folder: Path, device: str = "cpu"
) -> tuple[AudioVisualNet, Config, dict[str, Any]]:
    """Load a model in evaluation mode, its configuration, and its `extra`.

    Raises UserError when files are missing or unreadable, or when the tensors do not belong to the
    configuration.
    """
    missing = [name for name in (DESCRIPTION, TENSORS) if not (folder / name).is_file()]
    if missing:
        raise make_error(
            folder,
            f"the folder has no {' and no '.join(missing)}",
            "a folder that avsc saved a model in",
        )

    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if description["format"] != FORMAT:
            raise make_error(
                folder / DESCRIPTION,
                f"the model folder has format {description['format']}",
                f"avsc {__version__} reads format {FORMAT}",
            )
        config = read_recorded(description["config"])
        extra = description["extra"]
        tensors = load_file(folder / TENSORS, device=device)
    except (ValueError, KeyError, TypeError, ValidationError, SafetensorError) as error:
        raise make_error(folder, f"this is not a model folder ({error})") from None

    # Pretrained weights are not read again: the folder has all tensors, and their file may be gone.
    model = build_model(config).to(device)
    check_tensors(str(folder / TENSORS), model.state_dict(), tensors)
    model.load_state_dict(tensors)
    # Folders of earlier versions name branches here, or have no epsilons.
    for name, eps in description.get("norm_eps", {}).items():
        set_norm_eps(model.get_submodule(name), eps)
    return model.eval(), config, extra


def read_norm_eps(model: AudioVisualNet) -> dict[str, float]:
    """Read the LayerNorm epsilon of each backbone, which differs with the source of its weights.

    A backbone without LayerNorm, or with more than one epsilon, is left out.
    """
    found = {}
    for name, branch in model.branches.items():
        if branch.encoder is None:
            continue
        for part, backbone in name_backbones(branch.encoder).items():
            layers = [layer for layer in backbone.modules() if isinstance(layer, nn.LayerNorm)]
            epsilons = {layer.eps for layer in layers}
            if len(epsilons) == 1:
                found[f"{name}.encoder.{part}"] = epsilons.pop()
    return found
