"""Joining a cluster that is not there, or is something else."""

import re
import socket
import time

import pytest

from avsc_core.errors import EnvironmentFault
from studies.cluster.joining import _compare, find_cluster

REMEDY = "give HOST:PORT as `ray start --head` prints it"


@pytest.mark.parametrize("address", ["127.0.0.1:9", "foo", "foo bar", "http://x:1", "x:y", ""])
def test_a_cluster_that_is_not_there_is_told(address: str):
    with pytest.raises(EnvironmentFault) as caught:
        find_cluster(address)
    assert str(caught.value) == re.sub(
        " +", " ", f"--address: no Ray cluster at {address}; {REMEDY}"
    )


def test_a_server_that_does_not_answer_is_given_up_within_ten_seconds():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(EnvironmentFault) as caught:
            find_cluster(address)
    assert time.monotonic() - start < 10
    assert str(caught.value) == f"--address: no Ray cluster at {address}; {REMEDY}"


def test_other_versions_are_told_in_one_line_that_names_both():
    ours = {"Ray": "2.60.0", "Python": "3.11.7", "avsc": "0.2.0"}
    assert _compare("the cluster", dict(ours), ours) == []
    (fault,) = _compare("node 10.0.0.2", {**ours, "Python": "3.12.1", "avsc": "0.1.0"}, ours)
    assert str(fault) == (
        "--address: node 10.0.0.2 has Python 3.12.1, avsc 0.1.0, "
        "this machine Python 3.11.7, avsc 0.2.0; install the same on all nodes"
    )
