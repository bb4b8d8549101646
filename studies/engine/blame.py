"""Whose fault an error in a worker process is: the trial's own, or its environment's.

A trial's own fault is what its configuration leads to, wherever it is trained. A disk, a missing
file, a GPU that does not answer or somebody else's use of memory are faults of the environment:
they cost no trial. `judge` sorts an exception, `Unfit` carries its verdict out of a worker process
that cannot go on.
"""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
from ray.exceptions import RayError

from avsc_core.errors import EnvironmentFault, Fault, UserError
from avsc_core.files import DISK_FULL, describe_full_disk

GIB = 2**30

# Another worker process would meet these too. The other errors of a system may pass with the
# process: too many open files, a connection that broke.
LASTING = (*DISK_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR)

# Libraries say these in the text of an error of their own.
FULL_DISK_ERRORS = tuple(os.strerror(code) for code in DISK_FULL)
TORCH_MEMORY_ERRORS = ("can't allocate memory", "not enough memory")
CUDA_ERRORS = ("CUDA error", "CUDA driver", "cuDNN error", "CUBLAS_STATUS", "No CUDA GPUs", "NCCL")
# Of them, what a wrong index in a training leads to.
OWN_CUDA_ERRORS = ("device-side assert",)

# A trial that could have had this part of its share of a memory was not crowded out of it.
WHOLE_SHARE = 0.9
LESS_MEMORY = "a smaller training.batch_size or compute.micro_batch needs less"

AGAIN = "the same command continues"
ENVIRONMENT_FAULT = "the environment's fault"
OWN_FAULT = "the trial's own fault"


class Verdict(NamedTuple):
    """Whose fault an error is, and what may help."""

    line: str  # what people read
    environment: bool  # whether the environment is at fault, not the trial
    replace: bool = False  # whether a new worker process may get further


class Unfit(Exception):
    """A worker process cannot go on with its trial; another one may.

    Ray hands on the text of an exception, from which `read_unfit` gets the verdict back.
    """

    def __init__(self, line: str, environment: bool) -> None:
        super().__init__(f"{ENVIRONMENT_FAULT if environment else OWN_FAULT}: {line}")


def read_unfit(text: str) -> Verdict | None:
    """Return the verdict of an Unfit that ends a traceback; None of any other text."""
    for name, environment in ((ENVIRONMENT_FAULT, True), (OWN_FAULT, False)):
        _, found, line = text.rpartition(f"Unfit: {name}: ")
        if found:
            return Verdict(line.strip(), environment, replace=True)
    return None


def judge(
    error: Exception,
    folder: Path,  # that the training writes to
    needed: int = 0,  # bytes that it writes there at a time; 0 where nobody knows
    cpus: float = 1.0,  # that the trial was given
    gpus: float = 0.0,
) -> Verdict:
    """Tell whose fault an error is that a training raised."""
    for cause in list_causes(error):
        text = f"{type(cause).__name__}: {cause}"
        if isinstance(cause, EnvironmentFault):
            return Verdict(str(cause), environment=True)

        # the disk and the files on it
        if _is_full_disk(cause):
            place = Path(getattr(cause, "filename", None) or folder)
            return Verdict(str(describe_full_disk(place, "a checkpoint", needed)), environment=True)
        if isinstance(cause, OSError):
            where = str(cause.filename or "system")
            what = cause.strerror or text
            lasting = cause.errno in LASTING
            return Verdict(f"{where}: {what}", environment=True, replace=not lasting)
        if isinstance(cause, ImportError):
            return Verdict(f"import: {text}; install it where workers run", environment=True)

        # memory
        if type(cause).__name__ == "OutOfMemoryError":
            return _judge_gpu_memory(gpus)
        if isinstance(cause, MemoryError) or _says(cause, TORCH_MEMORY_ERRORS):
            return _judge_memory(cpus)

        # A process never gets over an error of CUDA, whoever is at fault.
        if _says(cause, CUDA_ERRORS):
            own = _says(cause, OWN_CUDA_ERRORS)
            return Verdict(f"GPU: {_first_line(cause)}", environment=not own, replace=True)
        if isinstance(cause, RayError):
            return Verdict(f"Ray: {_first_line(cause)}", True, replace=True)
    name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return Verdict(name + _first_line(error), environment=False)


def end_study(line: str) -> EnvironmentFault:
    """Return the fault that ends a study, made of the line of a verdict."""
    where, _, what = line.partition(": ")
    return EnvironmentFault(Fault(where, what, todo="" if AGAIN in line else AGAIN))


def describe_memory(peak: int) -> str:
    """Say what a process that wanted more memory has had (0 where nobody knows), and what helps."""
    known = f"peak {peak / GIB:.1f} GiB; " if peak else ""
    return f"{known}{LESS_MEMORY}, a larger --cpus runs fewer trials side by side"


def list_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it, the last one first."""
    while error is not None:
        yield error
        hidden = error.__suppress_context__
        error = error.__cause__ or (None if hidden else error.__context__)


def _is_full_disk(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in DISK_FULL
    return any(phrase in str(error) for phrase in FULL_DISK_ERRORS)


def _says(error: BaseException, phrases: tuple[str, ...]) -> bool:
    """Tell whether a RuntimeError, as which torch raises nearly everything, has such a text."""
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _judge_memory(cpus: float) -> Verdict:
    """Tell whether a trial that ran out of the machine's memory could have had its share of it."""
    memory = psutil.virtual_memory()
    held = psutil.Process().memory_info().rss
    share = memory.total * min(1.0, cpus / (psutil.cpu_count() or 1))
    own = memory.available + held >= WHOLE_SHARE * share
    line = f"memory: out of memory; {describe_memory(held)}"
    return Verdict(line, environment=not own, replace=not own)


def _judge_gpu_memory(gpus: float) -> Verdict:
    """Tell whether a trial that ran out of a GPU's memory could have had its share of it."""
    import torch

    free, total = torch.cuda.mem_get_info()
    held = torch.cuda.memory_reserved()
    peak = torch.cuda.max_memory_reserved()
    share = total * min(1.0, gpus)
    own = free + held >= WHOLE_SHARE * share
    what = f"GPU memory: peak {peak / GIB:.1f} GiB of a share of {share / GIB:.1f} GiB"
    if own:
        line = f"{what}; {LESS_MEMORY}, a larger --gpus gives more"
        return Verdict(line, environment=False)
    others = (total - free - held) / GIB
    line = f"{what}, others hold {others:.1f} GiB; wait for them or take another GPU"
    return Verdict(line, environment=True, replace=True)
