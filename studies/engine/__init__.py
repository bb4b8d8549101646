"""The engine: which trial is next, the worker processes that train, what is written down of it."""

import os

# Ray reads these switches when it is imported.
RAY_SWITCHES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # our handler records what is interrupted
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the record keeps them
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the record is the only memory
    "TUNE_FORCE_TRIAL_CLEANUP_S": "10",
}
for name, value in RAY_SWITCHES.items():
    os.environ.setdefault(name, value)
