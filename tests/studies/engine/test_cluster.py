"""Starting Ray for a study: what goes wrong is told in one line."""

from pathlib import Path

import pytest
import ray

from avsc_core.errors import EnvironmentFault
from studies.engine.cluster import start_ray
from tests.builders.studies import read


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            None,
            "Ray: its processes did not start (timed out);"
            " give the same command again when the machine is less busy",
        ),
        ("10.0.0.1:6379", "--address: no Ray cluster at 10.0.0.1:6379 (timed out)"),
    ],
)
def test_a_ray_that_does_not_start_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, told: str
):
    def time_out(*args: object, **kwargs: object) -> None:
        raise Exception("timed out")  # as Ray does on a machine that is too busy

    monkeypatch.setattr(ray, "init", time_out)
    study = read(tmp_path, "question: q\narms: [{name: one}]\n")
    with pytest.raises(EnvironmentFault) as caught:
        start_ray(study, address)
    assert str(caught.value) == told
