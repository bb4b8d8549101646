"""The engine: which trial is next, the worker processes that train, what is written down of it."""

import studies.cluster  # noqa: F401  # sets Ray's switches, before Ray is imported
