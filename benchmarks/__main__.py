"""Run every benchmark, one after another: `make bench`, or `python -m benchmarks [NAME]...`."""

import importlib
import sys

ALL = (
    "trial_overhead",
    "cross_attention",
    "training_step",
    "frozen_epoch",
    "checkpoint",
    "inputs",
    "coverage",
    "sequential",
    "power",
    "importance",
    "scale",
    "search",
)

if __name__ == "__main__":
    for name in sys.argv[1:] or ALL:
        importlib.import_module(f"benchmarks.{name}").main()
