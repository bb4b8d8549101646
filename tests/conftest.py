"""Small real data for all tests: embedded scenes, a cache of their own, a tiny configuration.

`make test` runs two workers (pytest-xdist). Fixtures of a session are made once in each worker, and
the tests of one file stay in one worker, because they share what their file has made.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import settings

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, read_dataset
from avsc_core.data.features import Features, build_features
from avsc_core.demo.scenes import write_demo
from avsc_core.processes import no_progress
from avsc_core.resolve import parse_set, resolve
from tests.builders import RAY_FILES
from tests.builders.configs import TINY

torch.set_num_threads(1)
# The same examples in every run, and no time limit: what fails here fails everywhere, on a busy
# machine too.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, which need not be there
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the tests of one file in one worker, and those of all files that start Ray.

    Two Rays at once on two cores would starve each other. They start first, because they take
    longest.
    """
    from xdist.scheduler import LoadFileScheduling

    class OneRayAtATime(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "Ray" if file in RAY_FILES else file

    config.option.loadscopereorder = False  # which would start the files with most tests first
    return OneRayAtATime(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu where there is none; under pytest-xdist put the tests of Ray first."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))

    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.nodeid.split("::")[0] not in RAY_FILES)


@pytest.fixture(scope="session", autouse=True)
def no_ray() -> Iterator[None]:
    """Let Ray start in processes of its own only: it ends a process a minute after its GCS has."""
    if find_spec("ray"):
        refusal = AssertionError("a test starts Ray in its own process; use Place.run")
        with patch("studies.cluster.session.ray.init", side_effect=refusal):
            yield
    else:
        yield


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
