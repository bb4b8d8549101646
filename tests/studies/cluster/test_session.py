"""Starting Ray for a study: what goes wrong is told in one line."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest
import ray
from ray._private import ray_constants

from avsc_core.errors import EnvironmentFault
from studies.cluster.session import open_ray
from tests.builders.studies import read


def test_a_ray_that_does_not_start_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def time_out(*args: object, **kwargs: object) -> None:
        raise Exception("timed out")  # as Ray does on a machine that is too busy

    monkeypatch.setattr(ray, "init", time_out)
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", True)
    study = read(tmp_path, "question: q\narms: [{name: one}]\n")
    with (
        patch.dict(os.environ),
        pytest.raises(EnvironmentFault) as caught,
        open_ray(None) as session,
    ):
        session.count_workers(study)
    assert str(caught.value) == (
        "Ray: its processes did not start (timed out);"
        " give the same command again when the machine is less busy"
    )
