"""Ray's processes: started for a command on this machine, or joined at an address.

Ray gives trials their processes and resources, and nothing else: memory is the record, the order
of trials is the strategy's. The switches in `__init__.py` turn off what it does besides.

Without an address a command has a Ray of its own, whatever else runs on the machine: it listens on
127.0.0.1 only, answers only who knows its token, and keeps its files in a private folder.
"""

import logging
import os
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import psutil
import ray
from ray._private import ray_constants
from ray._private.authentication.authentication_token_setup import _enable_token_auth
from ray._private.utils import get_num_cpus
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from avsc_core.errors import EnvironmentFault, Fault
from avsc_core.processes import ABANDONED
from avsc_core.terminal import err
from studies.cluster import drop_ray_variables
from studies.cluster.joining import check_nodes, find_cluster
from studies.cluster.nodes import list_nodes, list_worker_settings
from studies.cluster.temporary import temporary_folder
from studies.study.schema import Study

# Workers that import ahead at most; each holds some hundred MB.
MOST_PRELOADS = 16

# Seconds that killed processes get to be gone.
PATIENCE = 5.0


class Session(NamedTuple):
    """The Ray of a command, started or about to be, and the command's temporary folder."""

    folder: Path
    starting: Future[None]
    is_own: bool  # started for this command, on this machine, and not joined

    def wait(self) -> None:
        """Wait until Ray has started or failed; `count_workers` raises why it failed."""
        wait([self.starting])

    def count_workers(self, study: Study) -> int:
        """Wait for Ray, and count how many trials of `study` run at a time.

        Raises EnvironmentFault when Ray does not start or cannot hold a single trial, or when torch
        does not find the GPU of the only machine.
        """
        self.starting.result()
        needed = study.resources
        available = ray.cluster_resources()
        cpus = available.get("CPU", 0)
        gpus = available.get("GPU", 0)
        if needed.gpus and len(list_nodes()) < 2:
            _check_gpu()
        if gpus and not needed.gpus:
            what = f"trials train on the CPU, GPUs here: {gpus:.0f}"
            err.print(f"note: {what}; --gpus 1 gives each trial one", soft_wrap=True)
        places = needed.count_places(cpus, gpus)
        if places < 1:
            what = f"a trial needs {needed.cpus} CPUs and {needed.gpus} GPUs"
            found = f"there are {cpus:.0f} CPUs and {gpus:.0f} GPUs"
            raise EnvironmentFault(Fault("resources", what, found, "lower --cpus or --gpus"))
        return places


def _check_gpu() -> None:
    """Check that torch finds the GPU. Raises EnvironmentFault.

    Ray asks the driver for GPUs, and may find one that torch is built too new for.
    """
    from avsc_core.trainer.device import find_gpu_fault  # torch, which takes seconds

    if fault := find_gpu_fault("--gpus"):
        raise EnvironmentFault(fault)


@contextmanager
def open_ray(address: str | None, study: Study) -> Iterator[Session]:
    """Start Ray for a study, or join the cluster at `address`; end what it started at the end.

    Raises EnvironmentFault when there is no such cluster. A Ray of the command's own starts on a
    thread, because that takes seconds, most of them waiting; it is waited for where it is needed.
    """
    # Ray's own lines would stand between those of the study; what matters is raised.
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    starting: Future[None] = Future()
    closing = Event()
    with temporary_folder() as folder:
        if address is None:
            _make_private(folder)
        else:
            address = find_cluster(address)
        # The thread is a daemon, so that a start that hangs does not keep the command.
        arguments = (address, folder, _list_preloads(study), starting, closing)
        thread = Thread(target=_hold_ray, args=arguments, daemon=True)
        thread.start()
        try:
            if address is not None:
                starting.result()  # a missing cluster shows before anything is computed for it
                check_nodes(address)
            yield Session(folder, starting, is_own=address is None)
            wait([starting])
        except Exception:
            wait([starting])
            raise
        finally:
            processes = _list_processes(folder)
            if starting.done():
                _end_ray()
            else:
                # After a signal: Ray offers no way to stop its start.
                thread.name = ABANDONED
            # What lives on would write into the folder, after it is removed.
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, PATIENCE)
            closing.set()


def _make_private(folder: Path) -> None:
    """Set up a Ray that takes nothing from its surroundings, and that nobody else can use."""
    drop_ray_variables(kept=())
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    _enable_token_auth()
    AuthenticationTokenLoader.instance().reset_cache()
    # Without clusters Ray gives this machine the address 127.0.0.1, and binds all ports to it. The
    # argument for the address does not: Ray replaces 127.0.0.1 there by one that others can reach.
    ray_constants.ENABLE_RAY_CLUSTER = False


def _list_preloads(study: Study) -> list[str]:
    """List the modules that each of Ray's first workers imports while the driver prepares.

    Ray starts as many as there are CPUs. Where trials have more than one, or are fewer than that,
    most would stand idle, with torch in their memory; and many fill the memory.
    """
    cpus = get_num_cpus()
    trials = len(study.arms) * len(study.seeds) + (study.search.trials if study.search else 0)
    needed = study.resources
    fits = needed.cpus == 1 and not needed.gpus and cpus <= min(trials, MOST_PRELOADS)
    return ["studies.engine.preload"] if fits else []


def _hold_ray(
    address: str | None,
    folder: Path,
    preloads: list[str],
    starting: Future[None],
    closing: Event,
) -> None:
    """Start Ray and stay until the end: its processes die with the thread that started them."""
    # Whoever stops a job often sends SIGTERM to all its processes. Ray's inherit that they ignore
    # it, so that the study comes to its end with them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        if address is None:
            ray.init(
                "local",
                log_to_driver=False,
                logging_level="CRITICAL",
                include_dashboard=False,
                _temp_dir=str(folder / "ray"),
                _system_config={"preload_python_modules": preloads},
            )
        else:
            # Workers of a cluster know nothing of the driver's environment.
            runtime_env = {"env_vars": list_worker_settings()}
            ray.init(
                address, runtime_env=runtime_env, log_to_driver=False, logging_level="CRITICAL"
            )
    except BaseException as error:  # on a busy machine Ray raises nothing more special than that
        where = "Ray" if address is None else "--address"
        did_not = "its processes did not start" if address is None else f"{address} was not joined"
        todo = "give the same command again when the machine is less busy"
        fault = Fault(where, f"{did_not} ({error})", todo=todo)
        starting.set_exception(EnvironmentFault(fault))
    else:
        starting.set_result(None)
    closing.wait()


def _end_ray() -> None:
    """Disconnect from Ray, and kill the processes of a Ray of this command's own.

    Ray would send SIGTERM first, which they ignore, and wait a second for one after another.
    """
    node = ray._private.worker._global_node
    if node is not None:
        kill = node.kill_all_processes
        node.kill_all_processes = lambda allow_graceful, **how: kill(**how)
    ray.shutdown()


def _list_processes(folder: Path) -> list[psutil.Process]:
    """List Ray's processes and theirs, which are known by the folder on the command line."""
    found: list[psutil.Process] = []
    for process in psutil.Process().children():
        with suppress(psutil.Error):  # it has just ended
            if str(folder) in " ".join(process.cmdline()):
                found += [process, *process.children(recursive=True)]
    return found
