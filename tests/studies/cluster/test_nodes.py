"""What workers on other nodes are given of the driver's settings."""

from pathlib import Path

import pytest

from studies.cluster.nodes import list_worker_settings


def test_workers_get_settings_with_absolute_folders_and_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    given = {
        "AVSC_CACHE": "cache",
        "AVSC_STATE": "~/state",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "3",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "HF_TOKEN": "secret",
        "MLFLOW_TRACKING_PASSWORD": "secret",
        "CUDA_VISIBLE_DEVICES": "7",  # Ray says which
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = list_worker_settings()
    assert settings["AVSC_CACHE"] == str(tmp_path / "cache")
    assert settings["AVSC_STATE"] == str(tmp_path / "state")
    assert settings["OMP_NUM_THREADS"] == "3"
    assert settings["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "secret" not in settings.values()
    assert "CUDA_VISIBLE_DEVICES" not in settings


def test_workers_get_the_cache_that_nobody_has_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AVSC_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert list_worker_settings()["AVSC_CACHE"] == str(tmp_path / "avsc")
