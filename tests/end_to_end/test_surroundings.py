"""A study whatever surrounds it: variables, folders, streams, limits, users, others' Ray.

Each case was seen to break a study once. The commands are real, and so is what surrounds them. It
covers studies/cluster/session.py and avsc_core/terminal.py.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from avsc_core.record.recorder import Recorder
from tests.builders.commands import BIN
from tests.builders.places import Place

STUDY = "question: q\narms: [{name: one}]\n"
ODD = 'a b"#%41?&;é\n$(x)'
DEAD = "127.0.0.1:9"  # nothing listens there
PROXY = f"http://{DEAD}"
# Become a user whom the machine does not know. Root's interpreter may lie where only root can read.
READ = "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
BECOME = f'exec setpriv --reuid=54321 --regid=54321 --clear-groups {READ} "$@"'
NAMELESS = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"))
RAY_VARIABLES = {
    "RAY_ADDRESS": DEAD,
    "RAY_AUTH_MODE": "disabled",
    "RAY_AUTH_TOKEN": "somebody-elses",
    "RAY_GCS_SERVER_PORT": "9",
    "RAY_JOB_CONFIG_JSON_ENV_VAR": "{",
    "RAY_NAMESPACE": "theirs",
    "RAY_OVERRIDE_RESOURCES": '{"CPU": 0}',
    "RAY_TMPDIR": "/nowhere",
    "RAY_USE_TLS": "1",
    "RAY_raylet_start_wait_time_s": "0",
    "TUNE_RESULT_DIR": "/nowhere",
}


class Case(NamedTuple):
    """What surrounds a command."""

    variables: Mapping[str, str | None] = {}  # None: not there
    shell: str = 'exec "$@"'  # how the command is started
    folder: str = "place"
    user: int | None = None  # who owns the folder


WORKS = {
    "variables of Ray": Case(RAY_VARIABLES),
    "a dead proxy": Case(dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), PROXY)),
    "no HOME": Case({"HOME": None}),
    "a HOME that cannot be written": Case({"HOME": "/proc"}),
    "a user without a name": Case(
        {**NAMELESS, "HOME": None, "AVSC_CACHE": "{}/cache", "TMPDIR": "/tmp"},
        shell=BECOME,
        user=54321,
    ),
    "a closed standard output": Case(shell='exec "$@" >&-'),
    "a closed standard error": Case(shell='exec "$@" 2>&-'),
    "no streams": Case(shell='exec "$@" <&- >&- 2>&-'),
    "few open files": Case(shell='ulimit -n 256; exec "$@"'),
    "an open umask": Case(shell='umask 0; exec "$@"'),
    "odd names": Case({"AVSC_CACHE": "{}/" + ODD + "-cache", "TMPDIR": "{}/" + ODD}, folder=ODD),
    "a long TMPDIR": Case({"TMPDIR": "{}/" + 85 * "t"}),
    "no TMPDIR": Case({"TMPDIR": "{}/nowhere"}),
}


def start(case: Case, root: Path, command: list[str]) -> "subprocess.Popen[str]":
    """Start a command as the case says, in a folder under `root`."""
    environment = dict(os.environ)
    for name, value in case.variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value.replace("{}", str(root))
            if "{}" in value and "nowhere" not in value:
                Path(environment[name]).mkdir(exist_ok=True)
                Path(environment[name]).chmod(0o777)
    return subprocess.Popen(
        ["bash", "-c", case.shell, "bash", str(BIN / command[0]), *command[1:]],
        cwd=root / case.folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that every user can enter, as those of pytest are not."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_a_study_runs(name: str, root: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch):
    case = WORKS[name]
    if case.user and (os.getuid() or shutil.which("setpriv") is None):
        pytest.skip("only root may become another user")
    (root / case.folder).mkdir()
    shutil.copytree(scenes, root / "scenes")
    place = Place(root / case.folder, root / "scenes")
    (place.folder / "tiny.yaml").write_text(STUDY)
    if case.user:
        for path in (root, *root.rglob("*")):
            shutil.chown(path, case.user)
    command = [*place.run_study, "--set", "training.epochs=1"]
    process = start(case, root, command)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert "Traceback" not in err
    assert "ERROR" not in err
    monkeypatch.chdir(place.folder)  # its path may have characters that no address can have
    assert [trial.outcome for trial in Recorder().list_trials("tiny")] == ["complete"]
