"""What a study has to write into the record, on disk until it is written there.

A spool is a file, one operation a line as JSON. A line begins with a space, and with `#` once its
operation is delivered; a file of which everything is delivered is emptied. The file is the queue:
one thread appends, another one reads, and nothing of it stays in memory.

    <state folder>/spool/STUDY/USER.jsonl     USER: the number of the user who runs the study
    <state folder>/spool/STUDY/USER.refused   operations that the record does not accept

A spool belongs to the process that has it open; the next process of the same user continues it, on
another host too, where hosts share the state folder.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Condition
from typing import Any

from avsc_core.errors import EnvironmentFault, Fault

WAITING = b" "
DELIVERED = b"#"
CHUNK = 1 << 16  # bytes read at a time
SYNC_SECONDS = 5.0  # that what is not urgent may wait for the disk


class Spool:
    """The operations of one user on one study, in the order in which they were appended."""

    def __init__(self, folder: Path) -> None:
        """Open the spool in a folder, which is made. Raises EnvironmentFault while another process
        has it open."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = folder / f"{os.getuid()}.jsonl"
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            what = "another process is writing what it has of this study into the record"
            fault = Fault(str(self.path), what, todo="end it, or wait for it")
            raise EnvironmentFault(fault) from None

        self._changed = Condition()
        self._ended = False
        self._synced = time.monotonic()
        self._end = 0  # of the last whole line, in bytes
        self._place = 0  # of the line that is next
        self._length = 0  # of the line that was read
        self.waiting = 0  # lines that are not delivered
        self._count_lines()

    def append(self, operation: Mapping[str, Any], urgent: bool = False) -> None:
        """Append an operation; an `urgent` one is on the disk when this returns.

        Raises OSError when the disk is full.
        """
        line = WAITING + json.dumps(operation).encode() + b"\n"
        with self._changed:
            if os.pwrite(self._file, line, self._end) < len(line):
                os.ftruncate(self._file, self._end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._end += len(line)
            self.waiting += 1
            self._changed.notify_all()
        if urgent or time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def read_next(self) -> bytes | None:
        """Return the text of the operation that is next, and wait for one; None after `end`."""
        with self._changed:
            self._changed.wait_for(lambda: self.waiting or self._ended)
            if self._ended:
                return None
        line = self._read_line(self._place)
        self._length = len(line)
        return line[1:]

    def drop(self) -> None:
        """Drop the operation that was read, because it was delivered."""
        with self._changed:
            if self.waiting > 1:
                os.pwrite(self._file, DELIVERED, self._place)
                self._place += self._length
            else:
                os.ftruncate(self._file, 0)
                self._place = self._end = 0
            self.waiting -= 1
            self._changed.notify_all()

    def refuse(self, reason: str) -> Path:
        """Put the operation that was read aside. Returns the file where it is kept."""
        operation = self._read_line(self._place)[1:].decode(errors="replace").strip()
        path = self.path.with_suffix(".refused")
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            file.write(json.dumps({"reason": reason, "operation": operation}) + "\n")
        self.drop()
        return path

    def wait(self, seconds: float) -> None:
        """Wait until an operation is appended or dropped, for so many seconds at most."""
        with self._changed:
            self._changed.wait(seconds)

    def end(self) -> None:
        """Let `read_next` return None, so that its thread ends."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of the spool, and remove the file when everything is delivered."""
        if not self.waiting:
            self.path.unlink(missing_ok=True)
        os.close(self._file)  # which unlocks it

    def _read_line(self, place: int) -> bytes:
        """Return the line that begins at a place. Nothing is kept, because the file changes."""
        line = b""
        while chunk := os.pread(self._file, CHUNK, place + len(line)):
            head, newline, _ = chunk.partition(b"\n")
            line += head + newline
            if newline:
                break
        return line

    def _count_lines(self) -> None:
        """Find the first line that is not delivered; cut off a last line that is not whole."""
        with self.path.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._end += len(line)
                if line.startswith(DELIVERED):
                    # They are delivered in order; a mark of an earlier one that a power cut took
                    # back makes no difference.
                    self._place = self._end
                    self.waiting = 0
                else:
                    self.waiting += 1
        if not self.waiting:
            self._place = self._end = 0
        os.ftruncate(self._file, self._end)
