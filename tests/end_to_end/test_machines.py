"""A study on two machines, recorded by a third, as docs/cluster.md sets them up.

The machines share a folder and nothing else: not the network of this machine, not its /tmp. On
10.0.0.3 MLflow's server stands before PostgreSQL, 10.0.0.1 and 10.0.0.2 are nodes of Ray. Covers
studies/runner/nodes.py, studies/runner/view.py and studies/cluster/nodes.py.
"""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from glob import glob
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.builders.configs import TINY_OPTIONS
from tests.builders.machines import HOME, SHARED, Machine, find_obstacle, start_machines

PAGE = Path(__file__).parents[2] / "docs" / "cluster.md"
SERVER = "http://10.0.0.3:5000"
EPOCHS = 200  # enough to lose a node while a trial is under way there
SECONDS = 700  # that a part of a test may take on a busy machine
STUDY = """\
question: Does it run?
seeds: [0, 1]
arms:
  - {name: all}
  - {name: no SF, set: {fusion.kind: none}}
"""
TRIALS = 4
AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")

# Programs that a machine runs which reaches the record. The first prints what the record has; the
# second ends when a trial is under way on the machine `other`.
READ = f"""
import json, time
from avsc_core.record.recorder import Recorder
def read():
    recorder = Recorder("{SERVER}")  # a new one, because one reads the trials once
    for trial in recorder.list_trials("lambda"):
        epochs = [epoch for epoch, _ in recorder.read_history(trial.run_id, "train_total")]
        host = trial.tags.get("avsc.host", "")
        yield trial.arm, trial.seed, trial.outcome, host, epochs
"""
PRINT = f"""{READ}
study = Recorder("{SERVER}").find_study("lambda")
print(json.dumps([study and study.tags["avsc.outcome"], list(read())]))
"""
WAIT = f"""{READ}
while True:
    time.sleep(0.5)
    for _, _, outcome, host, epochs in read():
        if host == "other" and outcome == "running" and len(epochs) > 1:
            raise SystemExit
"""


class Trial(NamedTuple):
    """What the record has of a trial."""

    arm: str
    seed: int
    outcome: str
    host: str
    epochs: list[int]


class Cluster(NamedTuple):
    """The three machines, all set up."""

    server: Machine
    head: Machine
    other: Machine

    def read(self) -> tuple[str | None, list[Trial]]:
        """Read the outcome of the study and its trials."""
        outcome, trials = json.loads(self.head.call("python", "-c", PRINT))
        return outcome, [Trial(*trial) for trial in trials]


def find_missing() -> str:
    """Say what of the cluster is missing here; empty when nothing is."""
    if obstacle := find_obstacle():
        return obstacle
    if not shutil.which("initdb", path=find_postgresql()):
        return "no PostgreSQL here"
    return "" if find_spec("psycopg2") else "no psycopg2 here (the extra `postgresql`)"


def find_postgresql() -> str:
    """Return a PATH with PostgreSQL's programs, which Debian keeps out of the usual one."""
    return ":".join([*glob("/usr/lib/postgresql/*/bin"), os.environ["PATH"]])


MISSING = find_missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
    pytest.mark.timeout(3 * SECONDS),
]


@cache
def list_blocks() -> list[str]:
    """List the blocks of commands of the page: of the record, the nodes, the study, Slurm.

    Its folders become those of the machines, and Ray gets a part of this machine.
    """
    blocks = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", PAGE.read_text(), re.M)
    texts = [re.sub(r"^ {4}", "", block, flags=re.M) for block in blocks]
    part = "ray start --num-cpus=1 --object-store-memory=100000000"
    replaced = {"/shared": SHARED, "/srv": HOME, "ray start": part}
    for old, new in replaced.items():
        texts = [text.replace(old, new) for text in texts]
    return [re.sub(r"^pip install.*\n", "", text, flags=re.M) for text in texts]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Iterator[Cluster]:
    """Three machines with the record and Ray on them, and the data in the folder they share."""
    shared = tmp_path_factory.mktemp("cluster") / "shared"
    shutil.copytree(scenes, shared / "TAU")
    names = {"server": "10.0.0.3", "head": "10.0.0.1", "other": "10.0.0.2"}
    with start_machines(shared, **names) as machines:
        cluster = Cluster(*machines)
        record, head, other, *_ = list_blocks()
        start_record(cluster.server, record)
        start_ray(cluster, head, other)
        cluster.head.call("sh", "-c", f"cat > lambda.yaml <<'END'\n{STUDY}END")
        answer = f"import urllib.request as web; web.urlopen('{SERVER}/health')"
        cluster.head.wait_for("python", "-c", answer)
        yield cluster


def start_record(server: Machine, block: str) -> None:
    """Start PostgreSQL and MLflow's server as the page does."""
    database = {"PATH": find_postgresql()}
    server.call("install", "--directory", "--owner=nobody", "/tmp/database")
    options = ("--auth-local=trust", "--auth-host=scram-sha-256", "--username=postgres")
    server.call(*AS_NOBODY, "initdb", "--pgdata=/tmp/database", *options, **database)
    server.start(*AS_NOBODY, "postgres", "-D", "/tmp/database", "-k", "/tmp", **database)

    ask = ("psql", "--host=/tmp", "--username=postgres", "--command")
    server.wait_for(*ask, "SELECT 1")
    server.call(*ask, "CREATE USER mlflow PASSWORD 'SECRET'")
    server.call(*ask, "CREATE DATABASE mlflow OWNER mlflow")
    server.start("sh", "-ec", f"{block.rstrip()} --workers 1")


def start_ray(cluster: Cluster, head: str, other: str) -> None:
    """Start Ray on both nodes as the page does, the token in a file on each of them."""
    cluster.head.call("sh", "-ec", head)
    token = cluster.head.call("cat", f"{HOME}/.ray/auth_token")
    cluster.other.call("sh", "-c", f"umask 077; mkdir ~/.ray; echo {token} > ~/.ray/auth_token")
    cluster.other.call("sh", "-ec", other)


def make_command(changes: dict[str, str]) -> list[str]:
    """Return the page's command for a study, made small, with some of its words replaced."""
    options = [*TINY_OPTIONS, "--set", f"training.epochs={EPOCHS}", "--preset", "demo"]
    block = list_blocks()[3].rstrip() + " " + " ".join(f"'{word}'" for word in options)
    for old, new in changes.items():
        assert old in block
        block = block.replace(old, new)
    return ["sh", "-ec", block]


def test_a_node_without_the_data_is_named_before_anything_is_computed(cluster: Cluster):
    cluster.head.call("cp", "-r", f"{SHARED}/TAU", f"{HOME}/TAU")
    changes = {f"{SHARED}/TAU": f"{HOME}/TAU", f"{SHARED}/cache": f"{HOME}/cache"}
    done = cluster.head.run(*make_command(changes), seconds=300)
    assert done.returncode == 4, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("reading files")]
    assert lines == [
        "node 10.0.0.2 (other): lacks 60 of 60 files of the data, such as"
        f" {HOME}/TAU/audio/airport-barcelona-0-0.wav; put them there, or share their folder at"
        " the same path, or share the driver's cache folder (AVSC_CACHE)"
    ]
    assert cluster.read() == (None, [])
    cluster.head.call("rm", "-r", f"{HOME}/cache")


def test_the_server_holds_the_longest_names(cluster: Cluster):
    program = f"""
from avsc_core.record.recorder import Recorder
from tests.builders.names import check_longest_names
check_longest_names(Recorder("{SERVER}"))
"""
    cluster.head.call("python", "-c", program)


def test_a_study_ends_whole_though_a_node_is_lost(cluster: Cluster):
    # Every node has a cache of its own.
    command = make_command({f"{SHARED}/cache": f"{HOME}/cache"})
    driver = cluster.head.start(*command)
    cluster.head.call("python", "-c", WAIT, seconds=SECONDS)
    cluster.other.kill()
    assert driver.wait(SECONDS) == 0, cluster.head.read_log()

    # Every trial is there once, with every epoch once.
    outcome, trials = cluster.read()
    assert outcome == "complete"
    counts = Counter((trial.arm, trial.seed) for trial in trials)
    assert len(counts) == TRIALS
    assert set(counts.values()) == {1}
    for trial in trials:
        assert trial.outcome == "complete"
        assert trial.epochs == list(range(1, EPOCHS + 1))
    moved = [trial for trial in trials if trial.host == "other then head"]
    assert moved, trials

    # The caches were filled once a node, and said so.
    log = cluster.head.read_log()
    assert log.count(f"has a cache folder of its own ({HOME}/cache), which is filled now") == 1
    assert log.count("node 10.0.0.2 (other): its cache is ready after") == 1
    assert "Traceback" not in log
