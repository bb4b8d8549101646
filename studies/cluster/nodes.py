"""The nodes of a Ray cluster: what their workers are given, and how each of them is asked.

A worker process is started by its node's `ray start`, with whatever environment that had. So the
driver's settings go with the study, and what the driver has on its disk is looked for on each node
(studies/runner/nodes.py) before the first trial.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from avsc_core.files import cache_root
from studies.cluster import RAY_SWITCHES

# Beginnings of the names of variables that decide how a trial runs: folders, threads, digits.
# Credentials are not among them, because Ray shows to everybody what it passes on.
SETTINGS = ("AVSC_", "OMP_", "MKL_", "OPENBLAS_", "TORCH_", "PYTORCH_", "CUBLAS_", "CUDNN_")
ALSO = ("NVIDIA_TF32_OVERRIDE", "HF_HOME", "HF_ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE")
FOLDERS = ("AVSC_STATE", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME")


class Node(NamedTuple):
    """A node of the cluster."""

    id: str
    name: str  # address and host name, for people


class Answer(NamedTuple):
    """What a node answered: a value, or why it has none."""

    node: Node
    value: Any = None
    error: str = ""


def list_worker_settings() -> dict[str, str]:
    """Return the environment variables that workers need to do as they would beside the driver.

    Folders are absolute, because workers have a current folder of their own.
    """
    settings = dict(RAY_SWITCHES)
    for name, value in os.environ.items():
        if name.startswith(SETTINGS) or name in ALSO:
            settings[name] = value
    folders = {name: settings[name] for name in FOLDERS if name in settings}
    folders["AVSC_CACHE"] = str(cache_root())
    for name, folder in folders.items():
        settings[name] = str(Path(folder).expanduser().resolve())
    return settings


def list_nodes() -> list[Node]:
    """List the nodes of the cluster; the driver's machine is one of them."""
    nodes = []
    for node in ray.nodes():
        if node["Alive"]:
            name = f"{node['NodeManagerAddress']} ({node['NodeManagerHostname']})"
            nodes.append(Node(node["NodeID"], name))
    return sorted(nodes, key=lambda node: node.name)


def ask_nodes(
    nodes: Iterable[Node],
    function: Callable[..., Any],
    *arguments: Any,
    seconds: float | None = None,  # for all of them; None: as long as it takes
) -> Iterator[Answer]:
    """Call `function` in a process on each node, all at once; yield the answers as they come."""
    shared = [ray.put(argument) for argument in arguments]
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        asked[task.remote(*shared)] = node

    waiting = list(asked)
    end = None if seconds is None else time.monotonic() + seconds
    while waiting:
        left = None if end is None else max(0.0, end - time.monotonic())
        ready, waiting = ray.wait(waiting, timeout=left)
        if not ready:
            for task in waiting:
                yield Answer(asked[task], error=f"no answer within {seconds:.0f} s")
            return
        try:
            yield Answer(asked[ready[0]], ray.get(ready[0]))
        except RayError as error:
            yield Answer(asked[ready[0]], error=str(error).strip().split("\n")[-1])
