"""Imported by workers of Ray as they start: what their first trial would otherwise wait for."""

import os
from contextlib import suppress

# Ray sets it too when it gives a worker its trial, but torch reads it when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is wrong here is found again by the first step, which says whose fault it is.
with suppress(Exception):
    import avsc_core.trainer.loop  # noqa: F401
    import studies.engine.worker  # noqa: F401
