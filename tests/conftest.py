"""Small real data for all tests: embedded scenes on disk, their own cache, a configuration that trains in a second."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, read_dataset
from avsc_core.data.features import Features, build_features
from avsc_core.demo.scenes import write_demo
from avsc_core.processes import no_progress
from avsc_core.resolve import parse_set, resolve
from tests.builders.configs import TINY

torch.set_num_threads(1)
# The same examples in every run, and no time limit: what fails here fails everywhere, on a busy machine too.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")



def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu run where there is one."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of every scene in TAU's layout, and a cache folder of the session's own."""
    os.environ["AVSC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    root = tmp_path_factory.mktemp("scenes")
    write_demo(root, clips_per_scene=3, seed=1, workers=2)
    return root


@pytest.fixture(scope="session")
def data(scenes: Path) -> DataSet:
    return read_dataset(scenes)


@pytest.fixture(scope="session")
def tiny() -> Config:
    """Preset demo made smaller still."""
    return resolve("demo", parse_set(TINY))


@pytest.fixture(scope="session")
def features(data: DataSet, tiny: Config) -> Features:
    return build_features(data, tiny, no_progress)
