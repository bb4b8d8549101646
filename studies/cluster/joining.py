"""Joining a Ray cluster that somebody started: is it there, does it let us in, are we alike.

Ray waits minutes for a cluster that is not there, deaf to signals, and says why in many lines. So
another process asks first, which can be given up: this file, run as a program.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ray._common.usage.usage_lib import get_cluster_metadata
from ray._private import services
from ray._private.authentication.authentication_token_setup import _enable_token_auth
from ray._raylet import AuthenticationTokenLoader, GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RpcError

from avsc_core.errors import EnvironmentFault, Fault
from avsc_core.terminal import err
from studies.cluster.nodes import ask_nodes, list_nodes

# Seconds for an answer. Ray's own waiting, which is set below, ends before.
LIMIT = 9.0
SHORT_WAITS = {"RAY_gcs_rpc_server_connect_timeout_s": "1", "RAY_py_gcs_connect_timeout_s": "3"}
SECONDS_TO_CONNECT = 2
SECONDS_TO_FIND_A_NODE = 2
SECONDS_TO_ANSWER = 60.0  # that all nodes together have to start a worker and list versions

# What the other process may answer instead of versions, and what to do about it.
ABSENT = "no Ray cluster at {}"
REFUSED = "the Ray cluster at {} does not accept the token of this user"
LOCKED = "the Ray cluster at {} asks for a token, and this user has none"
UNREADABLE = "RAY_AUTH_TOKEN_PATH, whose token the Ray cluster at {} may ask for, cannot be read"
ELSEWHERE = "this machine is no node of the Ray cluster at {}"
REMEDIES = {
    ABSENT: "give HOST:PORT as `ray start --head` prints it",
    REFUSED: "put the cluster's own into ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH",
    LOCKED: "put the cluster's own into ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH",
    UNREADABLE: "set it to a file that holds the cluster's token, or unset it",
    ELSEWHERE: "run `ray start` with that address here, or the study there",
}


def find_cluster(address: str) -> str:
    """Return the address of a cluster as HOST:PORT, `auto` included, ready to be joined.

    Raises EnvironmentFault when it does not answer within 10 s, does not accept the user's token,
    has no node on this machine, or runs other versions of Ray or Python.
    """
    try:
        answer = _ask(address)
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        answer = {"fault": ABSENT}
    if fault := answer.get("fault"):
        what = fault.format(address)
        raise EnvironmentFault(Fault("--address", what, todo=REMEDIES[fault]))
    if faults := _compare(f"the cluster at {address}", answer["versions"], _make_task()()):
        raise EnvironmentFault(faults)

    # A driver with a token and workers without one would refuse each other, so the cluster decides.
    if answer["asks_token"]:
        _enable_token_auth()
    else:
        note = f"note: the Ray cluster at {address} asks for no token"
        err.print(f"{note}: whoever reaches its ports can run code there", soft_wrap=True)
    return str(answer["address"])


def check_nodes(address: str) -> None:
    """Compare the versions on every node of the joined cluster with those of this process.

    Raises EnvironmentFault with one fault for each node that has others.
    """
    faults: list[Fault] = []
    ours = _make_task()()
    for node, versions, error in ask_nodes(list_nodes(), _make_task(), seconds=SECONDS_TO_ANSWER):
        where = f"node {node.name} of the cluster at {address}"
        if error:
            faults.append(Fault("--address", f"{where} runs nothing ({error})"))
        else:
            faults += _compare(where, versions, ours)
    if faults:
        raise EnvironmentFault(faults)


def _make_task() -> Callable[[], dict[str, str]]:
    """Return what lists a node's versions, in a form that Ray sends whole.

    Of a function with a name in this module Ray would send the name, to nodes without the module.
    """

    def list_versions() -> dict[str, str]:
        import platform

        import ray

        try:
            from avsc_core import __version__
        except ImportError:
            __version__ = "is missing"
        return {
            "Ray": ray.__version__,
            "Python": platform.python_version(),
            "avsc": __version__,
        }

    return list_versions


def _compare(where: str, theirs: dict[str, str], ours: dict[str, str]) -> list[Fault]:
    """Return a fault when versions differ, none when they are the same."""
    differing = [name for name, version in theirs.items() if version != ours[name]]
    if not differing:
        return []
    there = ", ".join(f"{name} {theirs[name]}" for name in differing)
    here = ", ".join(f"{name} {ours[name]}" for name in differing)
    what = f"{where} has {there}, this machine {here}"
    return [Fault("--address", what, todo="install the same on all nodes")]


def _ask(address: str) -> dict[str, Any]:
    """Ask the cluster from another process, and return what `_answer` does."""
    # -P: a file in the current folder must not stand in for a module.
    command = [sys.executable, "-P", "-m", "studies.cluster.joining", address]
    done = subprocess.run(
        command, env=os.environ | SHORT_WAITS, capture_output=True, timeout=LIMIT, check=False
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _answer(address: str) -> dict[str, Any]:
    """Return the versions and address of a cluster and whether it asks for a token, or a fault."""
    try:
        found = services.canonicalize_bootstrap_address(address) or ""
        with socket.create_connection(services.extract_ip_port(found), SECONDS_TO_CONNECT):
            client, asks_token = _call(found)
    except AuthenticationError:
        return {"fault": _find_token_fault()}
    except (RpcError, ValueError, OSError):
        return {"fault": ABSENT}
    try:
        services.get_node_to_connect_for_driver(client, timeout_seconds=SECONDS_TO_FIND_A_NODE)
    except RuntimeError:
        return {"fault": ELSEWHERE}
    metadata = get_cluster_metadata(client)
    versions = {"Ray": metadata["ray_version"], "Python": metadata["python_version"]}
    return {"address": found, "versions": versions, "asks_token": asks_token}


def _call(address: str) -> tuple[Any, bool]:
    """Return a client of the cluster, and whether the cluster asks for a token.

    Raises AuthenticationError when it does and the user's is none or another one.
    """
    try:
        return GcsClient(address=address), False
    except AuthenticationError:
        # Once tokens are enabled Ray raises the same for none as for one that cannot be read.
        if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
            raise
        _enable_token_auth()
        return GcsClient(address=address), True


def _find_token_fault() -> str:
    """Say why the user's token did not open the cluster."""
    try:
        has_token = AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    except AuthenticationError:
        return UNREADABLE
    return REFUSED if has_token else LOCKED


if __name__ == "__main__":
    print(json.dumps(_answer(sys.argv[1])))
