"""Checkpoints: what is in them, when they are written, and which are not used."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from avsc_core.config import Config
from avsc_core.data.dataset import SplitRows, split_rows
from avsc_core.data.features import Features
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer import checkpoint as module
from avsc_core.trainer.checkpoint import Checkpoint, CheckpointFile
from avsc_core.trainer.loop import fit
from tests.builders.configs import TINY
from tests.builders.trainings import begin_training

OWNER = {"trial": "a", "metric": "val_acc"}


@pytest.fixture(scope="module")
def parts(features: Features, tiny: Config) -> SplitRows:
    return split_rows(features.data, tiny.split)


def make(epoch: int = 1, size: int = 1000) -> Checkpoint:
    """Every kind of value that a state has."""
    torch.manual_seed(epoch)
    optimiser = {
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.rand(2, 3).bfloat16()}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "foreach": None}],
    }
    model = {"weight": torch.rand(size), "empty": torch.rand(0), "count": torch.tensor(2)}
    return Checkpoint(epoch, {"val_acc": 1 / 3}, model, optimiser, {"base_lrs": [0.1]}, {}, None)


def write(path: Path, epoch: int = 1) -> None:
    file = CheckpointFile(path, minutes=0)
    assert file.load(OWNER) is None or epoch > 1
    file.offer(lambda: make(epoch))
    file.keep_last()
    assert file.notes == []


def test_what_is_written_is_read(tmp_path: Path):
    path = tmp_path / "study" / "trial.pt"
    write(path)
    read = CheckpointFile(path, minutes=0).load(OWNER)
    assert read is not None
    wanted = make()
    assert (read.epoch, read.metrics, read.schedule) == (1, {"val_acc": 1 / 3}, wanted.schedule)
    for name, tensor in wanted.model.items():
        assert torch.equal(read.model[name], tensor)
    moment = read.optimiser["state"][0]["exp_avg"]
    assert torch.equal(moment, wanted.optimiser["state"][0]["exp_avg"])
    assert read.optimiser["param_groups"] == [{"lr": 0.1, "betas": [0.9, 0.999], "foreach": None}]
    assert [each.name for each in path.parent.iterdir()] == ["trial.pt"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip_value(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 16
    path.write_bytes(content)


def flip_epoch(path: Path) -> None:
    """It says that it is of epoch 3."""
    content = path.read_bytes()
    assert content.count(b'epoch\\", 1]') == 1
    path.write_bytes(content.replace(b'epoch\\", 1]', b'epoch\\", 3]'))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write_earlier(path: Path) -> None:
    """As version 0.1.0 did."""
    torch.save({"format": 2, "key": "a"}, path)


def write_later(path: Path) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["header"]) | {"format": 99, "version": "9.0"}
    save_file(tensors, path, metadata | {"header": json.dumps(header)})


class Hostile:
    """Unpickling it would write a file."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path(os.environ["PLANTED"]),)


def plant(path: Path) -> None:
    path.write_bytes(pickle.dumps(Hostile()))


def leave_text_out(path: Path) -> None:
    save_file({"0": torch.zeros(3)}, path)


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (truncate, "is damaged"),
        (flip_value, "is damaged"),
        (flip_epoch, "is damaged"),
        (empty, "is damaged"),
        (plant, "is damaged"),
        (leave_text_out, "is damaged"),
        (write_earlier, "is of an earlier version"),
        (write_later, "is of version 9.0"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_told(
    tmp_path: Path, harm: Callable[[Path], None], what: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PLANTED", str(tmp_path / "planted"))
    path = tmp_path / "trial.pt"
    write(path)
    harm(path)
    file = CheckpointFile(path, minutes=0)
    assert file.load(OWNER) is None
    assert file.missing == f"the checkpoint at {path} {what}"
    assert not (tmp_path / "planted").exists()


def test_whatever_bit_is_flipped_is_noticed(tmp_path: Path):
    path = tmp_path / "trial.pt"
    write(path)
    content = path.read_bytes()
    for position in range(0, len(content), 11):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        assert CheckpointFile(path, minutes=0).load(OWNER) is None


def test_a_missing_one_is_told(tmp_path: Path):
    file = CheckpointFile(tmp_path / "trial.pt", minutes=0)
    assert file.load(OWNER) is None
    assert file.missing == f"no checkpoint at {tmp_path / 'trial.pt'}"


def test_it_belongs_to_its_clips_and_metric(
    features: Features, parts: SplitRows, tiny: Config, tmp_path: Path
):
    """With others the trial begins at epoch 1, whatever its configuration."""
    path = tmp_path / "trial.pt"
    begin_training(tiny, features, parts, path)
    relabelled = features._replace(data=features.data._replace(fingerprint="another"))
    seeded = tiny.model_copy(update={"seed": 5})
    foreign = {
        "split": (tiny, features, parts.validation, parts.train, "val_acc"),
        "metric": (tiny, features, *parts[:2], "val_logloss"),
        "data set": (tiny, relabelled, *parts[:2], "val_acc"),
        "trial": (seeded, features, *parts[:2], "val_acc"),
    }
    for name, (config, clips, train, validation, metric) in foreign.items():
        file = CheckpointFile(path, minutes=60)
        epoch = next(fit(config, clips, train, validation, metric=metric, checkpoint=file))
        assert epoch.number == 1
        assert file.missing == f"the checkpoint at {path} is of another {name}"
        file.remove()
        begin_training(tiny, features, parts, path)


@pytest.mark.parametrize(
    "sets",
    [
        ["audio.freeze=1", "visual.freeze=2", "training.ema=0.5"],
        ["audio.freeze=all", "training.heads_first=2"],
    ],
)
def test_frozen_weights_are_left_out(
    features: Features, parts: SplitRows, tmp_path: Path, sets: list[str]
):
    """Those that only wait for their second stage are not."""
    config = resolve("demo", parse_set([*TINY, *sets]))
    whole = [each.metrics for each in fit(config, features, parts.train, parts.validation)]
    path = tmp_path / "trial.pt"
    begin_training(config, features, parts, path)

    file = CheckpointFile(path, minutes=0)
    continued = fit(config, features, parts.train, parts.validation, checkpoint=file)
    first = next(continued)
    saved = module.read_checkpoint(path, file.owner)
    trained = {name for name, each in first.model.named_parameters() if each.requires_grad}
    if not config.training.heads_first:
        assert set(saved.model) & {name for name, _ in first.model.named_parameters()} == trained
    assert any(name.startswith("visual.encoder") for name in saved.model)
    assert [first.metrics, *(each.metrics for each in continued)] == whole


def test_a_trial_about_to_end_writes_none(
    features: Features, parts: SplitRows, tiny: Config, tmp_path: Path
):
    file = CheckpointFile(tmp_path / "trial.pt", minutes=0)
    *_, last = fit(tiny, features, parts.train, parts.validation, checkpoint=file)
    file.keep_last()
    saved = module.read_checkpoint(file.path, file.owner)
    assert (saved.epoch, last.number) == (2, 3)


def test_when_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After the first epoch; then at the asked interval, or when that costs next to nothing."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    file = CheckpointFile(tmp_path / "trial.pt", minutes=10)
    file.load(OWNER)

    def is_written(seconds: float, takes: float) -> bool:
        """Whether an epoch that ends after these seconds is written, the last one having taken
        `takes`."""
        now[0] += seconds
        file.seconds = takes
        file.offer(make)
        file._wait()
        return file.is_current

    assert is_written(1, takes=0)
    assert not is_written(599, takes=30)
    assert is_written(1, takes=30)
    assert not is_written(49, takes=0.5)
    assert is_written(1, takes=0.5)


def test_the_last_state_is_kept_if_that_takes_seconds(tmp_path: Path):
    for takes, epoch in ((1.0, 2), (60.0, 1)):
        file = CheckpointFile(tmp_path / f"{takes}.pt", minutes=10)
        file.load(OWNER)
        file.offer(lambda: make(1))
        file._wait()
        file.seconds = takes
        file.offer(lambda: make(2))
        file.keep_last()
        assert module.read_checkpoint(file.path, OWNER).epoch == epoch


def test_a_state_that_is_changing_is_not_kept(tmp_path: Path):
    file = CheckpointFile(tmp_path / "trial.pt", minutes=0)
    file.load(OWNER)
    file.offer(make)
    file.forget()
    file.is_current = False
    file.keep_last()
    assert not file.is_current


def test_a_disk_that_takes_nothing_costs_no_trial(
    features: Features, parts: SplitRows, tiny: Config, tmp_path: Path
):
    """It is told once; nothing is left of what was begun."""
    (tmp_path / "folder").touch()  # where a folder should be
    whole = [each.metrics for each in fit(tiny, features, parts.train, parts.validation)]
    file = CheckpointFile(tmp_path / "folder" / "trial.pt", minutes=0)
    told = []
    metrics = []
    for epoch in fit(tiny, features, parts.train, parts.validation, checkpoint=file):
        metrics.append(epoch.metrics)
        file._wait()
        told += file.take_notes()
    assert metrics == whole
    (note,) = told
    assert note.startswith("its checkpoint cannot be written ([Errno ")
    assert note.endswith("); it goes on without")


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from avsc_core.trainer.checkpoint import CheckpointFile
from tests.core.trainer.test_checkpoint import OWNER, make
file = CheckpointFile(Path(sys.argv[1]), minutes=0)
file.load(OWNER)
for epoch in range(1, 1_000_000):
    file.offer(lambda: make(epoch, size=3_000_000))
    file._wait()
    print(epoch, flush=True)
"""


def test_what_a_library_had_begun_beside_the_file_goes_with_it(tmp_path: Path):
    program = """if 1:
        import os, pathlib, sys
        from avsc_core.files import atomic_path
        with atomic_path(pathlib.Path(sys.argv[1])) as temporary:
            temporary.with_name(".tmpJGSKoh").write_bytes(b"as safetensors does")
            os._exit(1)
        """
    path = tmp_path / "trial.pt"
    subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    CheckpointFile(path, minutes=0).remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wait", [0.0, 0.019])
def test_the_previous_one_is_whole_whenever_a_writer_is_killed(tmp_path: Path, wait: float):
    path = tmp_path / "trial.pt"
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    written = [int(process.stdout.readline()) for _ in range(3)][-1]
    time.sleep(wait)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rest = process.stdout.read().split()
    epoch = module.read_checkpoint(path, OWNER).epoch
    assert epoch >= int(rest[-1] if rest else written)

    # What the killed process had begun goes with the trial.
    CheckpointFile(path, minutes=0).remove()
    assert list(tmp_path.iterdir()) == []
