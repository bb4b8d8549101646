"""Machines of their own on this one: each with its processes, network, files and host name.

A machine is a process with Linux namespaces of its own (util-linux's `unshare`), which needs root.
Its /tmp, /mnt and /dev/shm are its own, its address is 10.77.0.N on a network that leads nowhere,
and killing it ends all its processes at once, as pulling its plug would. When the process that
started it dies, it dies too.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
TOOLS = ("ip", "nsenter", "setpriv", "unshare")
HOME = "/mnt/home"  # of every machine, where its commands run
SHARED = "/mnt/shared"  # the one folder that all machines see

# What a machine does first: empty folders of its own, with code and interpreter put back where
# these covered them. HOME is made last, so that commands can only run on a machine that is ready.
BOOT = f"""
set -e
exec 3<"$SHARED_FOLDER" 4<"$CODE" 5<"$VENV"
for folder in /tmp /mnt /dev/shm; do mount -t tmpfs tmpfs $folder; done
mkdir -p {SHARED} "$CODE" "$VENV"
mount --bind /proc/self/fd/3 {SHARED}
mount --bind /proc/self/fd/4 "$CODE"
mount --bind /proc/self/fd/5 "$VENV"
hostname "$NAME"
ip link set lo up
mkdir {HOME}
exec sleep infinity
"""


class Machine:
    """A machine that runs; `name` is its host name."""

    def __init__(self, name: str, address: str, shared: Path, log: Path) -> None:
        self.name = name
        self.address = address
        self.log = log
        self.environment = {
            "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": HOME,
            "LANG": "C.UTF-8",
        }
        places = {"SHARED_FOLDER": str(shared), "CODE": str(ROOT), "VENV": sys.prefix, "NAME": name}
        # setpriv: `unshare` dies with this process; --kill-child: the machine dies with `unshare`.
        self._holder = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig=KILL", "unshare", "--kill-child=KILL", "--fork"),
                *("--net", "--mount", "--mount-proc", "--pid", "--uts", "--ipc"),
                *("sh", "-c", BOOT),
            ],
            env={**os.environ, **places},
            stderr=log.open("ab"),
        )
        self.pid = _wait_for_child(self._holder.pid)
        self.wait_for("true", seconds=20)

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[bytes]":
        """Start a command on the machine; its output goes to the machine's log."""
        output = self.log.open("ab")
        return subprocess.Popen(
            self._enter(command),
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def call(self, *command: str, seconds: float = 300, **variables: str) -> str:
        """Run a command on the machine to its end, which must be a good one; return its output."""
        done = self.run(*command, seconds=seconds, **variables)
        assert done.returncode == 0, f"{self.name}: {command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(
        self, *command: str, seconds: float = 300, **variables: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on the machine to its end, whatever that is."""
        return subprocess.run(
            self._enter(command),
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    def wait_for(self, *command: str, seconds: float = 300) -> None:
        """Wait until a command on the machine ends well."""
        end = time.monotonic() + seconds
        while (done := self.run(*command)).returncode:
            assert time.monotonic() < end, f"{self.name}: {command}: {done.stderr}"
            time.sleep(0.5)

    def read_log(self) -> str:
        """Return what the commands that were started have printed."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """Pull the plug: all processes of the machine are gone when this returns."""
        self._holder.kill()
        self._holder.wait()
        while psutil.pid_exists(self.pid):
            time.sleep(0.05)

    def _enter(self, command: Sequence[str]) -> list[str]:
        return [*_enter(self.pid, "--all"), "sh", "-c", 'cd && exec "$@"', "sh", *command]


@contextmanager
def start_machines(shared: Path, **names: str) -> Iterator[list[Machine]]:
    """Start machines with these names and addresses on one network; kill them at the end.

    The network is a switch inside the first machine.
    """
    machines: list[Machine] = []
    try:
        for name, address in names.items():
            machines.append(Machine(name, address, shared, shared.parent / f"{name}.log"))
        _connect(machines)
        yield machines
    finally:
        for machine in machines:
            machine.kill()


def find_obstacle() -> str:
    """Say why machines cannot be started here; empty when they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"no {', '.join(missing)} here"
    if os.geteuid():
        return "namespaces need root"
    tried = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"])
    return "namespaces are not allowed here" if tried.returncode else ""


def _connect(machines: Sequence[Machine]) -> None:
    """Connect machines by a bridge in the first one."""
    first = machines[0]
    _configure(first, "link add switch type bridge")
    _configure(first, f"addr add {first.address}/24 dev switch")
    _configure(first, "link set switch up")
    for machine in machines[1:]:
        port = f"to-{machine.name}"
        _configure(first, f"link add {port} type veth peer name eth0 netns {machine.pid}")
        _configure(first, f"link set {port} master switch up")
        _configure(machine, f"addr add {machine.address}/24 dev eth0")
        _configure(machine, "link set eth0 up")


def _configure(machine: Machine, command: str) -> None:
    # Only the network is the machine's, so that `ip` knows other machines by their process here.
    subprocess.run([*_enter(machine.pid, "--net"), "ip", *command.split()], check=True)


def _enter(pid: int, namespaces: str) -> list[str]:
    return ["nsenter", f"--target={pid}", namespaces]


def _wait_for_child(pid: int) -> int:
    """Return the first child of a process, which is about to start it."""
    while not (children := psutil.Process(pid).children()):
        time.sleep(0.01)
    return children[0].pid
