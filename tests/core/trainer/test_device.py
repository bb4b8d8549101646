"""Why a machine has no GPU that torch can use (avsc_core/trainer/device.py)."""

from collections.abc import Callable

import pytest
import torch

from avsc_core.errors import UserError
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer.device import choose_device, find_gpu_fault

BEGINNING = f"GPU: torch {torch.__version__} finds no GPU"
ADVICE = (
    "it is built for CUDA 13.0; see what `nvidia-smi` shows; "
    "the driver must be as new as the CUDA of torch"
)
OLD = (
    "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU "
    "driver by downloading and installing a new version from the URL: http://example.org"
)


@pytest.fixture(autouse=True)
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine without a GPU; what torch says of it can be set."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def say(text: str) -> None:
        def fail() -> None:
            raise RuntimeError(text)

        monkeypatch.setattr(torch.cuda, "init", fail)

    say("Found no NVIDIA driver on your system. Please check")
    return say


def test_a_gpu_that_torch_finds_is_no_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_gpu_fault("GPU") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (OLD, "the NVIDIA driver on your system is too old (found version 12020)"),
        ("No CUDA GPUs are available", "no CUDA GPUs are available"),
        ("Found no NVIDIA driver on your system.", "found no NVIDIA driver on your system"),
    ],
)
def test_the_reason_is_torchs_own(says: Callable[[str], None], text: str, told: str):
    says(text)
    assert str(find_gpu_fault("GPU")) == f"{BEGINNING}: {told}; {ADVICE}"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_torch_gives_a_reason(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    line = str(find_gpu_fault("GPU"))
    assert line.startswith(BEGINNING)
    assert "http" not in line


def test_a_torch_for_cpus_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    what = "because it is built for CPUs; install a CUDA build"
    assert str(find_gpu_fault("GPU")) == f"{BEGINNING}, {what}"


def test_a_torch_for_other_cards_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert "; it is built for ROCm 6.4; see what `rocm-smi` shows" in str(find_gpu_fault("GPU"))


@pytest.mark.parametrize("visible", ["-1", ""])
def test_chosen_devices_are_told(monkeypatch: pytest.MonkeyPatch, visible: str):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    told = f"; CUDA_VISIBLE_DEVICES is '{visible}'; it is built for"
    assert told in str(find_gpu_fault("GPU"))


def test_cuda_that_is_asked_for_is_never_replaced_by_the_cpu():
    config = resolve("demo", parse_set(["device=cuda"]))
    with pytest.raises(UserError) as caught:
        choose_device(config)
    told = "found no NVIDIA driver on your system; it is built for CUDA 13.0"
    todo = "use device=auto or device=cpu"
    assert str(caught.value) == f"{BEGINNING}: {told}; {todo}".replace("GPU:", "device:", 1)
    assert choose_device(resolve("demo", {})).type == "cpu"
