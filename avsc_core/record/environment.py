"""This module says with what and on what a training is computed, as tags of its run in the record.

    avsc.version    avsc.commit    avsc.libraries    avsc.device    avsc.threads    avsc.host

The same configuration and seed come to the same digits where all but the host are the same. A run
that was continued elsewhere has both values, joined by THEN. Runs of version 0.1.0 have no such
tags.
"""

import platform
import subprocess
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from avsc_core import __version__
from avsc_core.config import Config

LIBRARIES = ("torch", "torchvision", "torchaudio", "timm", "numpy")
THEN = " then "

# What decides digits, as people call it -> its tag.
TAGS = {
    "avsc": "avsc.version",
    "commit": "avsc.commit",
    "libraries": "avsc.libraries",
    "device": "avsc.device",
    "threads": "avsc.threads",
}


def describe_environment(config: Config) -> dict[str, str]:
    """Return the tags of a training of `config` in this process."""
    # Imported here, because readers of the record do without torch.
    import torch

    from avsc_core.trainer.device import choose_device

    device = choose_device(config).type
    # Which instructions a CPU has decides in which order it adds.
    name = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        name = f"{torch.cuda.get_device_name()}, capability {major}.{minor}"
    return {
        "avsc.version": __version__,
        "avsc.commit": read_commit(),
        "avsc.libraries": list_versions(LIBRARIES),
        "avsc.device": f"{device}, {name}",
        "avsc.threads": str(torch.get_num_threads()),
        "avsc.host": platform.node(),
    }


def list_versions(libraries: Iterable[str]) -> str:
    """List libraries with their versions: "torch 2.11.0, timm 1.0.26"."""
    return ", ".join(f"{name} {version(name)}" for name in libraries)


@lru_cache
def read_commit() -> str:
    """Return the commit of the code, marked when files differ from it; empty without git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def merge_environments(earlier: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return the tags `now`, each after the other value that a run had before it continued."""
    merged = {}
    for tag, value in now.items():
        values = earlier[tag].split(THEN) if tag in earlier else []
        merged[tag] = THEN.join(dict.fromkeys([*values, value]))
    return merged


def find_changes(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """List what differs between the tags of a run and the environment `now`, a line each.

    What the run does not say makes one line, the last.
    """
    lines = []
    missing = []
    for name, tag in TAGS.items():
        if tag not in recorded:
            missing.append(name)
        elif recorded[tag] != now[tag]:
            lines += _compare(name, recorded[tag], now[tag])
    if missing:
        lines.append(f"{', '.join(missing)}: not recorded")
    return lines


def name_device(tags: Mapping[str, str]) -> str:
    """Return device and number of threads of a run, as people read them; empty when not recorded.

    The same training on another of them comes to other digits.
    """
    if "avsc.device" not in tags:
        return ""
    threads = tags["avsc.threads"]
    return f"{tags['avsc.device']}, {threads} thread{'' if threads == '1' else 's'}"


def _compare(name: str, recorded: str, now: str) -> list[str]:
    """Compare two values of a tag; of libraries, each that differs."""
    if name != "libraries" or THEN in recorded:
        return [f"{name}: {recorded or 'unknown'}, now {now or 'unknown'}"]
    before = dict(item.split(" ", 1) for item in recorded.split(", "))
    lines = []
    for item in now.split(", "):
        library, found = item.split(" ", 1)
        if before.get(library) != found:
            lines.append(f"{library}: {before.get(library, 'not recorded')}, now {found}")
    return lines
