"""A folder in which a tiny study is run, disturbed, and continued, and the commands given there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from avsc_core.resolve import list_fields
from benchmarks.faults.record import Snapshot, take_snapshot

ROOT = Path(__file__).resolve().parents[2]
HOOKS = Path(__file__).parent / "hooks"
SCRATCH = ROOT / ".faults"  # everything that the harness writes, but for its result
BASE = SCRATCH / "base"  # what all cases share: scenes, cache, an empty record
PATIENCE = 240.0  # seconds after which a command hangs

# One worker, and a sampler whose points do not depend on results, so that two runs are comparable.
STUDY = """\
question: Is anything lost?
arms:
  - {name: all}
  - {name: no SF, set: {fusion.kind: none}}
search:
  space: {loss_weights: , alignment.k: {high: 8}}
  trials: 2
  sampler: random
  scheduler: none
"""

# As small as a training can be.
SETTINGS = {
    "log_mel.frames": "64",
    "log_mel.hop_ms": "160",
    "pictures.frames": "1",
    "pictures.resize": "32",
    "pictures.size": "32",
    "audio.width": "16",
    "audio.depth": "1",
    "audio.heads": "2",
    "audio.embedding": "16",
    "visual.dims": "[8, 8, 16, 16]",
    "visual.embedding": "16",
    "fusion.hidden": "32",
    "training.epochs": "4",
    # A checkpoint after every epoch, where it is a matter of time.
    **{name: "0" for name in list_fields() if "checkpoint" in name and name.endswith("minutes")},
}


class Ending(NamedTuple):
    """How a command ended."""

    code: int  # negative: the signal that ended it
    err: str
    hung: bool = False

    @property
    def last_line(self) -> str:
        """The last line on standard error, which says why."""
        lines = self.err.strip().splitlines()
        return lines[-1][-300:] if lines else "(nothing on standard error)"


class Entry(NamedTuple):
    """An epoch that the training loop has yielded, as hooks/sitecustomize.py logs it."""

    key: str
    epoch: int
    pid: int
    invocation: int


class Place:
    """A folder with the study file and an empty record."""

    def __init__(self, name: str, born: bool = True) -> None:
        """Make the folder; without `born` there is no record, and the first command makes it."""
        self.folder = SCRATCH / "cases" / name
        self.invocations = 0
        self.environment: dict[str, str] = {}
        self.groups: list[int] = []  # process groups of the commands that were started
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / "tiny.yaml").write_text(STUDY)
        if born:
            self.database.parent.mkdir()
            shutil.copyfile(BASE / "empty.db", self.database)

    @property
    def database(self) -> Path:
        """The SQLite file of the record."""
        return self.folder / "mlruns" / "mlflow.db"

    @property
    def command(self) -> list[str]:
        """The command that runs the study."""
        sets = [word for item in SETTINGS.items() for word in ("--set", "=".join(item))]
        # More than half of the cores: one trial runs at a time, with one thread on two cores.
        cpus = str(0.75 * (os.cpu_count() or 1))
        options = ["--data", str(BASE / "scenes"), "--preset", "demo", "--cpus", cpus]
        return ["avsc-search", "run", str(self.folder / "tiny.yaml"), *options, *sets]

    def make_environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the variables of the next command."""
        return {
            **os.environ,
            "AVSC_CACHE": str(BASE / "cache"),
            "FAULTS_LOG": str(self.folder / "epochs.jsonl"),
            "FAULTS_INVOCATION": str(self.invocations),
            "OMP_NUM_THREADS": "1",
            **self.environment,
            **(more or {}),
        }

    def start(
        self, more: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> "subprocess.Popen[str]":
        """Start the command as a process of its own, the leader of a group as in a terminal."""
        self.invocations += 1
        environment = self.make_environment(more)
        environment["PYTHONPATH"] = f"{HOOKS}{os.pathsep}{ROOT}"
        program = Path(sys.executable).parent / self.command[0]
        with (self.folder / f"err{self.invocations}").open("w") as err:
            process = subprocess.Popen(
                [str(program), *self.command[1:]],
                cwd=cwd or self.folder,
                env=environment,
                text=True,
                stdout=subprocess.DEVNULL,
                stderr=err,
                start_new_session=True,
            )
        self.groups.append(process.pid)
        return process

    def wait(self, process: "subprocess.Popen[str]", patience: float = PATIENCE) -> Ending:
        """Wait for a command that `start` started; what it leaves behind goes on, as in life."""
        number = self.groups.index(process.pid) + 1
        hung = False
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            hung = True
            kill_group(process.pid)
        code = process.wait()
        return Ending(code, self.read_err(number), hung)

    def run(self, more: Mapping[str, str] | None = None, cwd: Path | None = None) -> Ending:
        """Run the command to its end."""
        return self.wait(self.start(more, cwd))

    def read_err(self, number: int) -> str:
        """Return what the command of this number has written to standard error."""
        path = self.folder / f"err{number}"
        # A fork may be killed before it has opened it.
        return path.read_text(errors="replace") if path.exists() else ""

    def read_log(self) -> list[Entry]:
        """Return the epochs that were trained so far, whatever the record says of them."""
        path = self.folder / "epochs.jsonl"
        if not path.is_file():
            return []
        lines = path.read_text().splitlines()
        # A killed process may have left half a line.
        return [Entry(**json.loads(line)) for line in lines if line.endswith("}")]

    def wait_for_epochs(self, count: int, process: "subprocess.Popen[str]") -> bool:
        """Wait until so many epochs are trained. Returns whether the command still runs then."""
        until = time.monotonic() + PATIENCE
        while len(self.read_log()) < count and time.monotonic() < until:
            if process.poll() is not None:
                return False
            time.sleep(0.02)
        return process.poll() is None

    def take_snapshot(self) -> Snapshot:
        """Read the record."""
        return take_snapshot(self.database)

    def list_checkpoints(self) -> list[Path]:
        """List the checkpoints of trials that are not over; not those that are being written."""
        return sorted(self.folder.rglob("checkpoints/*/*.pt"))

    def read_checkpoints(self) -> dict[str, int]:
        """Map the key of each trial with a whole checkpoint to the epoch of it."""
        found = {}
        for path in self.list_checkpoints():
            with suppress(OSError, SafetensorError, ValueError, KeyError, TypeError):
                with safe_open(path, framework="pt") as file:
                    state = json.loads(file.metadata()["state"])
                found[path.stem] = int(dict(state["items"])["epoch"])
        return found

    def end_all(self) -> None:
        """End what the commands have left behind."""
        for group in self.groups:
            kill_group(group)

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def kill_group(leader: int) -> None:
    """Kill what is left of a process group that this harness started."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
