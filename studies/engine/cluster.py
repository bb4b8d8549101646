"""Ray's processes: started for a study on this machine, or joined at an address.

Ray gives trials their processes and resources, and nothing else: memory is the record, the order
of trials is the strategy's. The switches in `__init__.py` turn off what it does besides.
"""

import logging
import signal
from concurrent.futures import Future

import ray

from avsc_core.errors import EnvironmentFault, Fault
from studies.engine.nodes import list_worker_settings
from studies.study.schema import Study


def start_ray(study: Study, address: str | None) -> int:
    """Start a quiet Ray session, local or on the cluster at `address`.

    Returns how many trials run at a time. Raises EnvironmentFault when Ray does not start, when
    there is no such cluster, or when it cannot hold a single trial.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Ray copies its own experiment state on a thread that races with its clean-up; nobody reads
    # the copy, so its complaint would only confuse.
    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    try:
        ray.init(
            # Without an address Ray would join whatever cluster runs on this machine.
            address or "local",
            include_dashboard=False if address is None else None,
            # Workers of a cluster know nothing of the driver's environment.
            runtime_env={"env_vars": list_worker_settings()} if address else None,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except Exception as error:  # on a busy machine Ray raises nothing more special than that
        if address is not None:
            what = f"no Ray cluster at {address} ({error})"
            raise EnvironmentFault(Fault("--address", what)) from None
        what = f"its processes did not start ({error})"
        todo = "give the same command again when the machine is less busy"
        raise EnvironmentFault(Fault("Ray", what, todo=todo)) from None
    return _count_workers(study)


def stop_ray() -> None:
    """End what `start_ray` started."""
    ray.shutdown()


def _count_workers(study: Study) -> int:
    """Count how many trials run at a time on the cluster. Raises EnvironmentFault for none."""
    needed = study.resources
    available = ray.cluster_resources()
    cpus = available.get("CPU", 0)
    gpus = available.get("GPU", 0)
    places = needed.count_places(cpus, gpus)
    if places < 1:
        what = f"a trial needs {needed.cpus} CPUs and {needed.gpus} GPUs"
        found = f"there are {cpus:.0f} CPUs and {gpus:.0f} GPUs"
        raise EnvironmentFault(Fault("resources", what, found, "lower --cpus or --gpus"))
    return places


def wait_for_ray(starting: Future[int]) -> int:
    """Return what starting Ray on a thread returns: how many trials run at a time.

    Call it on the main thread. Ray's start replaces the handler of SIGTERM by one that dumps its
    stack and aborts, and a thread cannot keep it from that; so the handler is put back here.
    """
    workers = starting.result()
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
    return workers
