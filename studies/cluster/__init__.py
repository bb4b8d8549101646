"""Ray's processes: those of a command's own, or those of a cluster that it joins."""

import os
import sys

# Ray reads these switches when it is imported.
RAY_SWITCHES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # it aborts at SIGTERM; a study ends at it
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # our handler records what is interrupted
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the record keeps them
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the record is the only memory
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
}

# What joining a cluster needs of the user's own variables. A Ray of the study's own takes none.
RAY_CONNECTION = (
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_TLS_CA_CERT",
    "RAY_TLS_SERVER_CERT",
    "RAY_TLS_SERVER_KEY",
    "RAY_USE_TLS",
)


def drop_ray_variables(kept: tuple[str, ...]) -> None:
    """Drop variables that would set up Ray otherwise than a study needs it."""
    for name in list(os.environ):
        if name.startswith(("RAY_", "TUNE_")) and name not in (*RAY_SWITCHES, *kept):
            del os.environ[name]


if "ray" not in sys.modules:  # as it is in a worker, whose variables are Ray's own
    drop_ray_variables(RAY_CONNECTION)
    os.environ.update(RAY_SWITCHES)
