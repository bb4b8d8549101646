"""The lease of a study: which process runs it, so that no other one does.

It is one tag of the study's experiment, as JSON:

    id              of this lease, chosen at random
    host            name of the machine, for people
    machine         what tells whether two process ids can be compared
    pid, begun      the process, and its start in seconds since the machine's own
    since           when the lease was taken, for people
    beat            a counter that a thread of the process raises every few seconds

Clocks of machines are not compared. On one machine the process decides: it runs, or it does not.
A lease of another machine is alive when its counter changes while somebody watches.
"""

import os
import platform
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from threading import Event, Thread
from typing import TYPE_CHECKING
from uuid import uuid4

import psutil
from pydantic import BaseModel

from avsc_core.errors import Fault, LeaseLost, UserError
from avsc_core.record.address import locate_database
from avsc_core.record.reading.record import Record
from avsc_core.record.store import lock_record
from avsc_core.terminal import err

if TYPE_CHECKING:
    from avsc_core.record.recorder import Recorder

BEAT_SECONDS = 5.0
SILENT_SECONDS = 20.0  # without a beat, after which the process of another machine is dead
SETTLE_SECONDS = 2.0  # in which what another machine has just written can be read


class Lease(BaseModel, frozen=True):
    """Which process runs a study."""

    id: str
    host: str
    machine: str
    pid: int
    begun: float
    since: str
    beat: int = 0

    def __str__(self) -> str:
        return f"{self.host} (process {self.pid})"


@contextmanager
def hold_lease(recorder: "Recorder", study: str, where: str) -> Iterator[None]:
    """Run what is inside as the only process that runs a study.

    Raises UserError, at `where`, when another process runs it, and LeaseLost at the end when
    another machine took the lease, because this process gave no sign of life for a while.
    """
    lease = _take(recorder, study, where)
    ended = Event()
    beating = Thread(target=_beat, args=(recorder, study, lease, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join(BEAT_SECONDS)
        if recorder.lost:
            raise LeaseLost(Fault("record", recorder.lost, todo="the study goes on there"))
        # A server that is away by now keeps a lease whose process does not run any more.
        with suppress(UserError):
            found = _read(recorder, study)
            if found and found.id == lease.id:
                recorder.write_lease(study, "")


def has_owner(recorder: Record, study: str) -> bool:
    """Tell whether a process runs a study; watched for some seconds if on another machine."""
    lease = _read(recorder, study)
    if lease is None or lease.machine == _name_machine():
        return lease is not None and _is_running(lease)
    return _watch(recorder, study, lease) is not None


def _take(recorder: "Recorder", study: str, where: str) -> Lease:
    """Take the lease of a study and return it. Raises UserError when another process has it."""
    silent = None  # a lease that has been watched without a sign of life
    while True:
        # Nobody on this machine comes between reading the lease and writing it.
        with lock_record(recorder.uri):
            found = _read(recorder, study)
            if found is None or found == silent or _is_dead(found):
                taken = _write_new(recorder, study)
                if taken is not None:
                    _announce(study, found)
                    return taken
                continue

        is_here = found.machine == _name_machine()
        if owner := found if is_here else _watch(recorder, study, found):
            what = f"study {study} is running on {owner} since {owner.since}"
            raise UserError(Fault(where, what, todo="wait for it, or use --name"))
        silent = found


def _write_new(recorder: "Recorder", study: str) -> Lease | None:
    """Write a lease of this process and return it; None when another one was written after it."""
    process = psutil.Process()
    lease = Lease(
        id=uuid4().hex,
        host=platform.node(),
        machine=_name_machine(),
        pid=process.pid,
        begun=_read_start(process),
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    recorder.write_lease(study, lease.model_dump_json())

    # Machines that share a server have no lock in common. Of those that found the study free at
    # the same moment the last one to write has the lease, and all of them read it afterwards.
    if locate_database(recorder.uri) is None:
        time.sleep(SETTLE_SECONDS)
    found = _read(recorder, study)
    return lease if found and found.id == lease.id else None


def _announce(study: str, earlier: Lease | None) -> None:
    """Say so when a lease is taken over from a process that did not give it back."""
    if earlier and earlier.pid != os.getpid():
        what = f"study {study} was begun by {earlier} at {earlier.since} and left unfinished"
        err.print(f"note: {what}; it is taken over", soft_wrap=True)


def _beat(recorder: "Recorder", study: str, lease: Lease, ended: Event) -> None:
    """Give a sign of life every few seconds until `ended`, or until the lease is lost."""
    while not ended.wait(BEAT_SECONDS):
        # A record that is away for a while is no reason to stop: nobody else can read it either.
        with suppress(UserError):
            found = _read(recorder, study)
            if found is None or found.id != lease.id:
                owner = f" by {found}" if found else ""
                recorder.lost = f"study {study} was taken over{owner}"
                # The way in which a study ends when it is stopped from outside.
                os.kill(os.getpid(), signal.SIGTERM)
                return
            lease = lease.model_copy(update={"beat": lease.beat + 1})
            recorder.write_lease(study, lease.model_dump_json())


def _watch(recorder: Record, study: str, lease: Lease) -> Lease | None:
    """Wait for a sign of life of a lease of another machine.

    Returns the lease that is in the record then; None when there was no sign.
    """
    what = f"study {study} was last run on {lease}"
    err.print(f"note: {what}; a sign of life is awaited for {SILENT_SECONDS:.0f} s", soft_wrap=True)
    end = time.monotonic() + SILENT_SECONDS
    while time.monotonic() < end:
        time.sleep(min(1.0, BEAT_SECONDS))
        found = _read(recorder, study)
        if found != lease:
            return found
    return None


def _read(recorder: Record, study: str) -> Lease | None:
    """Read the lease of a study; None where no process has it."""
    text = recorder.read_lease(study)
    return Lease.model_validate_json(text) if text else None


def _is_dead(lease: Lease) -> bool:
    """Tell whether a lease is of a process of this machine that does not run any more."""
    return lease.machine == _name_machine() and not _is_running(lease)


def _is_running(lease: Lease) -> bool:
    """Tell whether the process of a lease runs on this machine, other than this process."""
    if lease.pid == os.getpid():
        return False
    try:
        process = psutil.Process(lease.pid)
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
        return not is_zombie and abs(_read_start(process) - lease.begun) < 0.1
    except psutil.AccessDenied:
        return True
    except psutil.Error:
        return _is_hidden(lease.pid)


def _is_hidden(pid: int) -> bool:
    """Tell whether a process runs that only its user may see (/proc mounted with `hidepid`)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        pass
    return False


def _read_start(process: psutil.Process) -> float:
    """Return when a process began, in seconds since the start of the machine.

    Both times of psutil are of the clock, so that their difference does not change with it.
    """
    return float(process.create_time() - psutil.boot_time())


def _name_machine() -> str:
    """Return what two processes share that can see each other: a running system and its ids."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()
