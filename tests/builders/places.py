"""Folders where the commands run, each with a study file that trains in seconds and a record."""

import subprocess
from pathlib import Path

from avsc_core.record.recorder import Recorder
from avsc_core.record.trials import TrialRecord
from tests.builders.commands import RECORD, Done, run, run_process, start_process
from tests.builders.configs import TINY_OPTIONS
from tests.builders.records import copy_empty_record, open_record_in

STUDY = """\
question: Does it run?
seeds: [0, 1]
arms:
  - {name: all}
  - {name: no SF, set: {fusion.kind: none}}
search:
  space: {loss_weights: , alignment.k: {high: 8}}
  trials: 4
  grace_epochs: 1
"""


class Place:
    """A folder with a study file, where the commands run.

    Its record is there already, empty, unless `record` is False: then the first command makes it.
    """

    def __init__(self, folder: Path, scenes: Path, record: bool = True) -> None:
        self.folder = folder
        self.scenes = scenes
        (folder / "tiny.yaml").write_text(STUDY)
        if record:
            copy_empty_record(folder / RECORD)
        self.run_study = [
            *("avsc-search", "run", "tiny.yaml"),
            *("--data", str(scenes), "--preset", "demo", *TINY_OPTIONS),
        ]

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start a command as a process of its own."""
        return start_process(self.folder, *command)

    def run(self, *command: str, code: int = 0) -> tuple[str, str]:
        """Run a command as a process of its own; return its two outputs."""
        return _check(run_process(self.folder, *command), code)

    def call(self, *command: str, code: int = 0) -> tuple[str, str]:
        """Run a command in this process; return its two outputs."""
        return _check(run(self.folder, *command), code)

    @property
    def recorder(self) -> Recorder:
        """The record of this folder."""
        return open_record_in(self.folder, RECORD)

    def trials(self, study: str = "tiny") -> list[TrialRecord]:
        """Read the trials of a study from the record."""
        return self.recorder.list_trials(study)


def _check(done: Done, code: int) -> tuple[str, str]:
    assert done.code == code, done.out + done.err
    return done.out, done.err
