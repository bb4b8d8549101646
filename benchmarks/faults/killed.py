"""Processes that are killed, stopped or told to end."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import psutil

from benchmarks.faults import forked
from benchmarks.faults.attempt import Attempt, Undisturbed, make_random, run_with_ray
from benchmarks.faults.forked import Strike
from benchmarks.faults.place import Ending, Place

MOMENTS = 30
PAIRS = 30
SIGNALS = 10  # of each kind
REAL_MOMENTS = 30
PAUSE = 15.0  # seconds that a process is stopped


def kill_at_every_write(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Kill the driver before and after every write of a study."""
    for number in range(1, undisturbed.writes + 1):
        for after in (False, True):
            name = f"{'after' if after else 'before'} write {number}"
            yield Attempt(name, partial(_strike, Strike(number, after)))


def kill_twice(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Kill the driver at some write, and the one that continues at another."""
    for number in range(PAIRS):
        chance = make_random(f"pair {number}")
        first = Strike(chance.randint(1, undisturbed.writes - 10), chance.random() < 0.5)
        second = Strike(chance.randint(1, 20), chance.random() < 0.5)
        name = f"pair {number}: writes {first.number} and {second.number}"
        yield Attempt(name, partial(_strike_twice, first, second))


def kill_at_moments(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Kill the driver, which trains too, at random moments."""
    for number in range(MOMENTS):
        share = make_random(f"moment {number}").random()
        yield Attempt(
            f"moment {number}", partial(_signal_fork, [signal.SIGKILL], share, undisturbed)
        )


def send_signals(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Send SIGTERM once, and Ctrl-C once and twice, at random moments."""
    kinds = {
        "SIGTERM": [signal.SIGTERM],
        "Ctrl-C": [signal.SIGINT],
        "Ctrl-C twice": [signal.SIGINT, signal.SIGINT],
    }
    for kind, numbers in kinds.items():
        for number in range(SIGNALS):
            name = f"{kind} {number}"
            share = make_random(name).random()
            yield Attempt(name, partial(_signal_fork, numbers, share, undisturbed))


def kill_real_driver(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Kill the driver of a study with Ray at random moments."""
    for number in range(REAL_MOMENTS):
        share = make_random(f"driver {number}").random()
        delay = share * undisturbed.real_seconds
        disturb = partial(_signal_real, [signal.SIGKILL], delay)
        yield Attempt(f"driver {number}", disturb, proceed=run_with_ray)


def signal_real_driver(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Send SIGTERM once, and Ctrl-C once and twice, to a study with Ray."""
    for kind, numbers in {
        "SIGTERM": [signal.SIGTERM],
        "Ctrl-C": [signal.SIGINT],
        "Ctrl-C twice": [signal.SIGINT, signal.SIGINT],
    }.items():
        for number in range(3):
            name = f"{kind} {number}"
            delay = make_random(f"real {name}").random() * undisturbed.real_seconds
            yield Attempt(name, partial(_signal_real, numbers, delay), proceed=run_with_ray)


def kill_workers(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Kill the worker process that trains: once, in two epochs, twice in the same epoch."""
    for epochs in (1, 2, 6, 11):
        disturb = partial(_kill_worker, epochs, 1, False)
        yield Attempt(f"once, after epoch {epochs}", disturb, proceed=run_with_ray)
    for epochs in (2, 7):
        disturb = partial(_kill_worker, epochs, 2, False)
        yield Attempt(f"twice, from epoch {epochs} on", disturb, proceed=run_with_ray)
        disturb = partial(_kill_worker, epochs, 2, True)
        yield Attempt(f"twice in epoch {epochs}", disturb, proceed=run_with_ray)


def kill_node(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Kill the raylet, which is what a driver sees of a node that dies."""
    for epochs in (1, 3, 6, 10):
        yield Attempt(f"after epoch {epochs}", partial(_kill_node, epochs), proceed=run_with_ray)


def stop_processes(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Stop the driver or the worker for a while, and the worker for good."""
    for epochs in (2, 7):
        disturb = partial(_stop, epochs, False, PAUSE)
        yield Attempt(f"driver, after epoch {epochs}", disturb, proceed=run_with_ray)
        disturb = partial(_stop, epochs, True, PAUSE)
        yield Attempt(f"worker, after epoch {epochs}", disturb, proceed=run_with_ray)
    yield Attempt("worker, for good", partial(_stop, 3, True, 0.0), proceed=run_with_ray)


def _strike(strike: Strike, place: Place) -> list[Ending]:
    """Run the study until it kills itself."""
    ending = forked.run(place, strike)
    return [ending] if ending.code == -signal.SIGKILL else []


def _strike_twice(first: Strike, second: Strike, place: Place) -> list[Ending]:
    return [*_strike(first, place), *_strike(second, place)]


def _signal_fork(
    numbers: list[signal.Signals], share: float, undisturbed: Undisturbed, place: Place
) -> list[Ending]:
    """Send signals to a command in a fork after a share of its time."""
    process = forked.fork(place)
    time.sleep(share * undisturbed.seconds)
    for number in numbers:
        process.kill(number)
        time.sleep(0.05)
    return [forked.wait(place, process)]


def _signal_real(numbers: list[signal.Signals], delay: float, place: Place) -> list[Ending]:
    """Send signals to the process group of a command with Ray, as a terminal does."""
    process = place.start()
    time.sleep(delay)
    for number in numbers:
        if process.poll() is None:
            os.kill(process.pid, number)
        time.sleep(0.5)
    return [place.wait(process)]


def _kill_worker(epochs: int, times: int, same_epoch: bool, place: Place) -> list[Ending]:
    """Kill the process that trains after so many epochs, perhaps twice."""
    process = place.start()
    killed: set[int] = set()
    for _ in range(times):
        if not place.wait_for_epochs(epochs, process):
            break
        pid = place.read_log()[-1].pid
        while pid in killed and process.poll() is None:  # until another worker has the trial
            time.sleep(0.02)
            pid = place.read_log()[-1].pid
        _send(pid, signal.SIGKILL)
        killed.add(pid)
        if not same_epoch:
            epochs += 2
    return [place.wait(process)] if killed else []


def _kill_node(epochs: int, place: Place) -> list[Ending]:
    """Kill the raylet of a command's own Ray."""
    process = place.start()
    if not place.wait_for_epochs(epochs, process):
        return [place.wait(process)]
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.name() == "raylet":
            child.kill()
    return [place.wait(process)]


def _stop(epochs: int, worker: bool, seconds: float, place: Place) -> list[Ending]:
    """Stop the driver or the worker for so many seconds; 0: for good."""
    process = place.start()
    if not place.wait_for_epochs(epochs, process):
        return [place.wait(process)]
    pid = place.read_log()[-1].pid if worker else process.pid
    _send(pid, signal.SIGSTOP)
    if seconds:
        time.sleep(seconds)
        _send(pid, signal.SIGCONT)
        return [place.wait(process)]
    ending = place.wait(process, patience=900)  # the watchdog waits for ten minutes at most
    _send(pid, signal.SIGKILL)
    return [ending]


def _send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process of the study, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)
