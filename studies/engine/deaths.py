"""What becomes of a trial whose worker process died: it continues, or it fails.

A trial continues from its checkpoint however often its worker dies, as long as an epoch comes
between. `Recovery` gives Ray that allowance and finds out how a worker died.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError

from studies.engine.blame import describe_memory, read_unfit
from studies.engine.worker import locate_stacks

MOST_DEATHS = 3  # of a trial's workers in one epoch

# How a death reads in Ray's words, or in those of Python's faulthandler -> what people read, and
# whether the environment is to blame however often it happens.
KNOWN_DEATHS = {
    "node has died": ("its node was lost", True),
    "ModuleNotFoundError": ("a module is missing where workers run", True),
    "ObjectLostError": ("Ray lost what the worker was given", True),
    "OwnerDiedError": ("Ray lost what the worker was given", True),
    "Bus error": ("a bus error: a file of the cache was cut short, or its disk failed", True),
    "Segmentation fault": ("a segmentation fault", False),
    "Aborted": ("an abort", False),
    "receives a SIGTERM": ("somebody's SIGTERM", False),
}
OUT_OF_MEMORY = ("running low on memory", "OutOfMemoryError")


class Death(NamedTuple):
    """How a worker process died."""

    how: str  # what people read
    environment: bool  # whether the environment is to blame, however often it happens
    counts: bool = True  # towards MOST_DEATHS
    stacks: str = ""  # what the process was doing, where it could tell


class Recovery:
    """Finds out how workers died, and gives Ray the number of deaths that a trial may have."""

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}  # bytes of memory, by Ray's trial id
        self.known: dict[str, Death] = {}  # of workers that the watchdog has ended
        self.system_kills = _count_system_kills()

    def note_progress(self, trial: Any, peak: int) -> None:
        """Allow a trial that has ended another epoch as many deaths as if it had just begun."""
        self.peaks[trial.trial_id] = peak
        trial.max_failures = trial.num_failures + MOST_DEATHS - 1

    def take_death(self, trial: Any) -> Death:
        """Find out how the worker of a trial died that Ray has just reported."""
        stacks_file = locate_stacks(Path(trial.config["checkpoint"]))
        stacks = stacks_file.read_text(errors="replace") if stacks_file.is_file() else ""
        stacks_file.unlink(missing_ok=True)
        death = self.known.pop(trial.trial_id, None)
        if death is None:
            death = self._read_death(trial, stacks)
        return death._replace(stacks=stacks)

    def _read_death(self, trial: Any, stacks: str) -> Death:
        text = _read_error(trial)
        if verdict := read_unfit(text):
            return Death(verdict.line, verdict.environment)

        # somebody else's need of memory, or the trial's own
        kills_before, self.system_kills = self.system_kills, _count_system_kills()
        if any(phrase in text for phrase in OUT_OF_MEMORY):
            return Death(f"Ray ended it when memory ran low; {self._say_memory(trial)}", False)
        if self.system_kills > kills_before and not stacks:
            return Death(f"the system ran out of memory; {self._say_memory(trial)}", False)

        for phrase, (how, environment) in KNOWN_DEATHS.items():
            if phrase in text or phrase in stacks:
                counts = phrase != "node has died"
                return Death(how, environment, counts)
        if code := re.search(r"exit code (\d+)", text):
            return Death(f"exit code {code[1]}", environment=False)
        if "End of file" in text:
            return Death("killed, perhaps by SIGKILL", environment=False)
        return Death(text.strip().split("\n")[-1], environment=False)

    def _say_memory(self, trial: Any) -> str:
        return describe_memory(self.peaks.get(trial.trial_id, 0))


@cache
def treat_losses_as_deaths() -> None:
    """Have Ray Tune take every loss of a worker as its death.

    It knows the deaths that raise a RayActorError. Of a worker that Ray's own memory monitor ended,
    and of results that were lost with a node, it ends the whole study with a RuntimeError.
    """
    # Ray also prints every death onto the driver's output, in many words.
    ray._private.worker._worker_logs_enabled = False
    handle = RayActorManager._actor_task_failed

    # Ray passes both by their names.
    def handle_all(self: RayActorManager, tracked_actor_task: Any, exception: Exception) -> None:
        known = isinstance(exception, (RayActorError, RayTaskError))
        if isinstance(exception, RayError) and not known:
            exception = RayActorError(error_msg=f"{type(exception).__name__}: {exception}")
        handle(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = handle_all


def _read_error(trial: Any) -> str:
    """Read what Ray says of the last death of a trial's worker.

    Ray writes it to a file in a folder of the driver; its `get_error` reads a copy, which is late.
    """
    path = trial.error_file
    return Path(path).read_text().rpartition("Failure # ")[2] if path else ""


def _count_system_kills() -> int:
    """Count the processes that Linux has ended on this machine for lack of memory."""
    path = Path("/proc/vmstat")
    lines = path.read_text().splitlines() if path.is_file() else []
    counts = dict(line.split() for line in lines)
    return int(counts.get("oom_kill", 0))
