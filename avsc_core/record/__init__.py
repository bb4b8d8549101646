"""The record: what MLflow keeps of studies, trials and trainings, written and read back."""

import logging
import os

# MLflow reads some of these switches when it is imported, so they are set before anything here
# imports it. What the user has set stays.
SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # It prints addresses of runs, with the password of the record in them.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By itself it tries seven times, two minutes each, before it says that a server is away.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "PGCONNECT_TIMEOUT": "4",  # of PostgreSQL's library, in seconds
}
for switch, value in SWITCHES.items():
    os.environ.setdefault(switch, value)


def quieten() -> None:
    """Make MLflow quiet unless something is wrong; called after it has been imported.

    Of a store that is away MLflow and its migrations would log pages, but that is told in one line.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("mlflow.store.db", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
