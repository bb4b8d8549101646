"""Sorting of errors that cannot be had without a GPU, or a system that is out of order."""

import errno

import pytest
from ray.exceptions import ObjectLostError

from avsc_core.errors import EnvironmentFault, Fault
from studies.engine.blame import Unfit, end_study, judge, read_unfit


def chain(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


CASES = [
    # (error, whether its environment is at fault, whether another worker may help, its line)
    (ValueError("a\nb"), False, False, "ValueError: a"),
    (RuntimeError("mat1 and mat2 shapes"), False, False, "RuntimeError: mat1 and mat2 shapes"),
    (OSError(errno.EIO, "I/O error", "/data/a.wav"), True, True, "/data/a.wav: I/O error"),
    (OSError(errno.ESTALE, "Stale file handle", "/n"), True, True, "/n: Stale file handle"),
    (PermissionError(errno.EACCES, "denied", "/data/a"), True, False, "/data/a: denied"),
    (FileNotFoundError(errno.ENOENT, "No such file", "/x"), True, False, "/x: No such file"),
    (ConnectionResetError(errno.ECONNRESET, "reset"), True, True, "system: reset"),
    (RuntimeError("CUDA error: unspecified launch failure\nCompile with"), True, True, "GPU: CUDA"),
    (RuntimeError("CUDA error: device-side assert triggered"), False, True, "GPU: CUDA error"),
    (RuntimeError("No CUDA GPUs are available"), True, True, "GPU: No CUDA GPUs"),
    (ModuleNotFoundError("No module named 'timm'"), True, False, "import: ModuleNotFoundError"),
    (EnvironmentFault(Fault("a", "b")), True, False, "a: b"),
    (ObjectLostError("00", None, ""), True, True, "Ray: "),
    (chain(RuntimeError("read failed"), OSError(errno.EIO, "x", "/y")), True, True, "/y: x"),
]


@pytest.mark.parametrize(("error", "environment", "replace", "line"), CASES, ids=repr)
def test_an_error_is_sorted(
    error: Exception, environment: bool, replace: bool, line: str, tmp_path
):
    verdict = judge(error, tmp_path)
    assert (verdict.environment, verdict.replace) == (environment, replace)
    assert verdict.line.startswith(line)
    assert "\n" not in verdict.line


@pytest.mark.parametrize("environment", [True, False])
def test_a_verdict_comes_through_the_text_of_an_exception(environment: bool):
    """Ray hands on nothing else."""
    text = f"Traceback:\n  ...\nstudies.engine.blame.Unfit: {Unfit('GPU: gone', environment)}\n"
    assert read_unfit(text) == ("GPU: gone", environment, True)
    assert read_unfit("ValueError: no") is None


def test_a_study_ends_with_one_line_that_says_how_it_goes_on():
    assert str(end_study("GPU: gone")) == "GPU: gone; the same command continues"
    line = "disk: / has 0.0 MB free; free some, the same command continues"
    assert str(end_study(line)) == line
