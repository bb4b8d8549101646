"""A record that goes away while a study runs: a real server that hangs or dies, a real lock.

Covers avsc_core/record/delivery/writer.py from the command line to the record.

Training goes on, everything arrives once when the record is back, and a study whose record stays
away ends with one line and is continued by the same command.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from avsc_core.record.recorder import Recorder
from tests.builders.commands import RECORD
from tests.builders.outages import MlflowServer, locked
from tests.builders.places import Place

STUDY = """\
question: q
search: {space: {loss_weights: }, sampler: random, scheduler: none, trials: 8}
"""
MORE = 3  # trials that are completed while the record is away

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AVSC_STATE", str(tmp_path / "state"))
    place = Place(tmp_path, scenes)
    (tmp_path / "tiny.yaml").write_text(STUDY)
    return place


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    server = MlflowServer(folder)
    yield server
    server.kill()


class Running:
    """A study that runs, and what it has told so far."""

    def __init__(self, place: Place, *options: str) -> None:
        self.process = place.start(*place.run_study, *options)
        self.told = ""
        assert self.process.stdout
        self.results = ""
        self.reading = Thread(target=self._read_results, daemon=True)
        self.reading.start()

    def wait_for_trials(self, count: int) -> None:
        """Wait until so many more trials are complete."""
        assert self.process.stderr
        for line in self.process.stderr:
            self.told += line
            count -= " complete " in line
            if not count:
                return
        raise AssertionError(self.told)

    def wait_for_end(self) -> int:
        """Wait until the study ends. Returns its exit code."""
        assert self.process.stderr
        self.told += self.process.stderr.read()
        self.reading.join(60)
        return self.process.wait(60)

    def _read_results(self) -> None:
        assert self.process.stdout
        self.results = self.process.stdout.read()


@contextmanager
def frozen(server: MlflowServer) -> Iterator[None]:
    server.freeze()
    yield
    server.wake()


@contextmanager
def dead(server: MlflowServer) -> Iterator[None]:
    server.kill()
    yield
    server.start()


def check_trials(recorder: Recorder) -> None:
    """Check that the record has every trial once, with every epoch once, in order."""
    trials = recorder.list_trials("tiny")
    assert [trial.outcome for trial in trials] == ["complete"] * 8
    assert len({trial.key for trial in trials}) == 8
    for trial in trials:
        epochs = [epoch for epoch, _ in recorder.read_history(trial.run_id, "train_total")]
        assert epochs == [1, 2, 3]
        assert len(recorder.read_lines(trial.run_id, "predictions_val.tsv")) > 1
        assert trial.tags["avsc.host"]


@pytest.mark.parametrize("away", [frozen, dead])
def test_a_server_that_comes_back(
    place: Place, server: MlflowServer, away: Callable[[MlflowServer], Iterator[None]]
):
    uri = server.uri.replace("//", "//me:s3cret@")
    study = Running(place, "--tracking-uri", uri)
    study.wait_for_trials(1)
    with away(server):
        study.wait_for_trials(MORE)
    assert study.wait_for_end() == 0, study.told
    check_trials(Recorder(server.uri))

    # Nowhere a secret: outputs, the study's document, what is left on disk.
    recorder = Recorder(server.uri)
    document = recorder.read_study_document(recorder.get_study("tiny").run_id)
    assert "//me:...@127.0.0.1" in document["invocations"][0]["command"]
    assert "s3cret" not in study.told + study.results + str(document)
    assert not list((place.folder / "state").rglob("*.jsonl"))


def test_a_file_that_somebody_has_locked(place: Place):
    study = Running(place)
    study.wait_for_trials(1)
    with locked(place.folder / RECORD):
        study.wait_for_trials(MORE)
    assert study.wait_for_end() == 0, study.told
    check_trials(place.recorder)


def test_a_server_that_stays_away(place: Place, server: MlflowServer):
    address = ["--tracking-uri", server.uri]
    study = Running(place, *address)
    study.wait_for_trials(2)
    server.kill()
    assert study.wait_for_end() == 4
    assert "8/8 complete " in study.told  # training went on
    (spool,) = (place.folder / "state").rglob("*.jsonl")
    last = study.told.splitlines()[-1]
    assert last.startswith(f"record: {server.uri}: ")
    assert re.search(rf"; \d+ writes are kept in {spool}; the same command delivers them$", last)

    # The same command tells the record what was trained, and trains nothing again.
    server.start()
    again = Running(place, *address)
    assert again.wait_for_end() == 0
    assert re.search(
        r"record: \d+ writes of an earlier run of study tiny are delivered", again.told
    )
    assert "8 trials, 8 of them in the record already" in again.told
    check_trials(Recorder(server.uri))
    assert not spool.exists()
