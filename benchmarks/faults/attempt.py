"""One fault: how a study is disturbed, and how it goes on."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.faults import forked
from benchmarks.faults.place import Ending, Place


class Undisturbed(NamedTuple):
    """What is known of the study before any fault."""

    writes: int  # of a command with the stand-in for Ray
    seconds: float  # that such a command takes
    real_seconds: float  # that a command with Ray takes; 0 where no kind needs it


@dataclass(frozen=True)
class Attempt:
    """A fault that is tried once; `disturb` returns how its commands ended.

    It returns nothing when the study was over before the fault: then there is nothing to judge.
    """

    name: str
    disturb: Callable[[Place], list[Ending]]
    damage: Callable[[Place], None] = lambda place: None  # between the fault and the next command
    proceed: Callable[[Place], Ending] = forked.run
    clean: Callable[[Place], None] = lambda place: None
    born: bool = True  # whether there is an empty record before


def run_with_ray(place: Place) -> Ending:
    """Give the command again, with Ray."""
    return place.run()


def make_random(name: str) -> random.Random:
    """Return random numbers of a case's own, the same at every run of the harness."""
    return random.Random(name)
