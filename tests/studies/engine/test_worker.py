"""Real faults in a worker process, without Ray: each is the trial's own, or its environment's."""

import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, read_dataset
from avsc_core.demo.scenes import write_demo
from avsc_core.resolve import parse_set, resolve
from studies.engine.blame import Unfit
from studies.engine.worker import DUMP_SIGNAL, StudyTrial, locate_stacks
from tests.builders.configs import TINY
from tests.builders.disks import small_disk

Begin = Callable[..., StudyTrial]
BYTES = 40_000_000  # that a checkpoint is said to have


@pytest.fixture
def begin(data: DataSet, tiny: Config, tmp_path: Path) -> Begin:
    """Begin a trial in this process, as Ray does in another one."""

    def begin(
        config: Config = tiny, data: DataSet = data, gpus: float = 0.0, folder: Path = tmp_path
    ) -> StudyTrial:
        trial = StudyTrial.__new__(StudyTrial)
        parameters = {"config": config.model_dump_json(), "checkpoint": str(folder / "key.pt")}
        trial.setup(parameters, data, "val_acc", "best", 1.0, gpus, BYTES)
        return trial

    return begin


@pytest.fixture
def limit() -> Iterator[Callable[[int, int], None]]:
    """Limit what this process may use, until the test is over."""
    before = {}

    def limit(kind: int, value: int) -> None:
        before[kind] = resource.getrlimit(kind)
        resource.setrlimit(kind, (value, before[kind][1]))

    yield limit
    for kind, values in before.items():
        resource.setrlimit(kind, values)


def run_to_its_end(trial: StudyTrial) -> dict[str, Any]:
    """Run the epochs of a trial. Returns the last result."""
    result = trial.step()
    while "outcome" not in result:
        trial.checkpoint._wait()  # written by a thread, whose fault the next epoch meets
        result = trial.step()
    return result


def test_a_sound_trial_reports_its_peak_of_memory(begin: Begin):
    result = begin().step()
    assert result["epoch"] == 1
    assert result["peak"] > 100_000_000


def test_a_full_disk_is_named_with_what_is_free_and_needed(begin: Begin, tmp_path: Path):
    folder = tmp_path / "checkpoints"
    with small_disk(folder, "100k"):
        result = run_to_its_end(begin(folder=folder))
    assert result["outcome"] == "interrupted"
    free = r"0\.[01] MB free"
    todo = "free some, the same command continues"
    line = rf"disk: {folder} has {free}, a checkpoint needs 40\.0 MB; {todo}"
    assert re.fullmatch(line, result["error"])


def test_a_limit_of_files_is_a_full_disk(begin: Begin, limit: Any, tmp_path: Path):
    trial = begin()
    limit(resource.RLIMIT_FSIZE, 100_000)
    result = run_to_its_end(trial)
    assert result["outcome"] == "interrupted"
    assert result["error"].startswith(f"disk: {tmp_path} has ")
    assert "a checkpoint needs 40.0 MB and meets a quota or limit" in result["error"]


def test_too_many_open_files_end_the_worker_and_not_the_trial(begin: Begin, limit: Any):
    trial = begin()
    trial.step()  # what is imported later opens files too
    limit(resource.RLIMIT_NOFILE, 3)
    with pytest.raises(Unfit, match=r"the environment's fault: .*: Too many open files"):
        trial.step()


def test_missing_files_are_the_environments(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both the data set and the cache are gone, as when a file system is no longer mounted."""
    monkeypatch.setenv("AVSC_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "scenes"
    write_demo(root, clips_per_scene=3, seed=1, workers=1)
    data = read_dataset(root)
    shutil.rmtree(root)
    result = begin(data=data).step()
    assert result["outcome"] == "interrupted"
    assert str(root) in result["error"]


def test_a_cache_that_was_cut_short_is_the_environments(
    begin: Begin, tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
):
    cache = tmp_path / "cache"
    shutil.copytree(os.environ["AVSC_CACHE"], cache)
    monkeypatch.setenv("AVSC_CACHE", str(cache))
    begin().step()
    for path in cache.rglob("array.npy"):
        os.truncate(path, path.stat().st_size // 2)
    result = begin().step()
    assert result["outcome"] == "interrupted"
    assert "array.npy: is not an array of the cache (" in result["error"]
    assert "it is computed again" in result["error"]


def test_more_memory_than_there_is_is_the_trials_own(begin: Begin):
    greedy = resolve("demo", parse_set([*TINY, "fusion.hidden=100000000"]))
    result = begin(greedy).step()
    assert result["outcome"] == "failed"
    last = result["error"].splitlines()[-1]
    assert last.startswith("memory: out of memory; peak ")
    assert "training.batch_size" in last
    assert "--cpus" in last


def test_a_loss_that_is_not_finite_is_the_trials_own(begin: Begin):
    wild = resolve("demo", parse_set([*TINY, "loss_weights.scene=1e38"]))
    assert run_to_its_end(begin(wild))["outcome"] == "diverged"


def test_a_gpu_that_is_gone_is_not_replaced_by_the_cpu(begin: Begin):
    with pytest.raises(Unfit, match=r"environment's fault: GPU: torch .* finds no GPU"):
        begin(gpus=1.0).step()


def test_a_worker_writes_its_stack_when_asked_to(begin: Begin, tmp_path: Path):
    begin()
    os.kill(os.getpid(), DUMP_SIGNAL)
    stacks = locate_stacks(tmp_path / "key.pt").read_text()
    assert "test_a_worker_writes_its_stack_when_asked_to" in stacks
