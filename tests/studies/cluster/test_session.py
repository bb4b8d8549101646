"""Starting Ray for a study: what goes wrong is told in one line."""

import os
from pathlib import Path
from unittest.mock import patch

import pytest
import ray
from ray._private import ray_constants

from avsc_core.errors import EnvironmentFault
from studies.cluster import session
from studies.cluster.session import _list_preloads, open_ray
from studies.engine import preload
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
        open_ray(None, study) as opened,
    ):
        opened.count_workers(study)
    assert str(caught.value) == (
        "Ray: its processes did not start (timed out);"
        " give the same command again when the machine is less busy"
    )


def test_workers_import_ahead_only_where_trials_occupy_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session, "get_num_cpus", lambda: 4)
    four = "question: q\narms: [{name: one}, {name: two, set: {alignment.k: 3}}]\nseeds: [0, 1]\n"
    search = "question: q\nsearch: {space: {alignment.k: null}, trials: 4}\n"
    assert _list_preloads(read(tmp_path, four)) == [preload.__name__]
    assert _list_preloads(read(tmp_path, search)) == [preload.__name__]
    assert _list_preloads(read(tmp_path, four.replace("[0, 1]", "[0]"))) == []
    assert _list_preloads(read(tmp_path, four, cpus=2)) == []
    assert _list_preloads(read(tmp_path, four, gpus=0.5)) == []
    # With many CPUs the workers would fill the memory.
    monkeypatch.setattr(session, "get_num_cpus", lambda: 64)
    assert _list_preloads(read(tmp_path, search.replace("trials: 4", "trials: 100"))) == []
