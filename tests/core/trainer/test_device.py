"""Why a machine has no GPU that torch can use (avsc_core/trainer/device.py)."""

from pathlib import Path

import pytest
import torch

from avsc_core.errors import UserError
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer import device
from avsc_core.trainer.device import choose_device, find_gpu_fault

BEGINNING = f"GPU: torch {torch.__version__} finds no GPU"
DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Tue Nov  5 2024\nGCC version: 12\n"


@pytest.fixture(autouse=True)
def without_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without a GPU, whose driver would be told in the file that is returned."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(device, "DRIVER_FILE", tmp_path / "version")
    return tmp_path / "version"


def test_a_gpu_that_torch_finds_is_no_fault(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_gpu_fault("GPU") is None


@pytest.mark.parametrize("line", [DRIVER, DRIVER.replace("UNIX", "UNIX Open")])
def test_a_driver_that_is_too_old_is_told_beside_the_cuda_of_torch(without_gpu: Path, line: str):
    without_gpu.write_text(line.format("550.54.15"))
    assert str(find_gpu_fault("GPU")) == (
        f"{BEGINNING}: it is built for CUDA 13.0, and the NVIDIA driver is 550.54.15; "
        "install a newer driver, or a torch build for an older CUDA"
    )


def test_a_driver_without_a_version_is_told(without_gpu: Path):
    without_gpu.write_text("something else")
    assert "the NVIDIA driver is of unknown version;" in str(find_gpu_fault("GPU"))


def test_a_machine_without_a_driver_is_told():
    what = "this machine has no NVIDIA driver; install one"
    assert str(find_gpu_fault("GPU")) == f"{BEGINNING}: {what}"


def test_a_torch_for_cpus_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    what = "because it is built for CPUs; install a CUDA build"
    assert str(find_gpu_fault("GPU")) == f"{BEGINNING}, {what}"


def test_hidden_devices_are_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    what = "because CUDA_VISIBLE_DEVICES is empty; unset it"
    assert str(find_gpu_fault("GPU")) == f"{BEGINNING}, {what}"


def test_cuda_that_is_asked_for_is_never_replaced_by_the_cpu():
    config = resolve("demo", parse_set(["device=cuda"]))
    with pytest.raises(UserError) as caught:
        choose_device(config)
    what = "this machine has no NVIDIA driver; auto or cpu; install one"
    assert str(caught.value) == f"{BEGINNING}: {what}".replace("GPU:", "device:", 1)
    assert choose_device(resolve("demo", {})).type == "cpu"
