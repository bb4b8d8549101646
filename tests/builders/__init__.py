"""What tests build their cases from: configurations, studies, records, media, weights, commands.

A helper that two test modules need stands here and never in a test module, so that no test module
imports another one.
"""

# Test files that start Ray: `make test` runs them one after another, in one of its workers.
RAY_FILES = (
    "tests/end_to_end/test_cluster.py",
    "tests/end_to_end/test_docs.py",
    "tests/end_to_end/test_machines.py",
    "tests/end_to_end/test_outages.py",
    "tests/end_to_end/test_own_ray.py",
    "tests/end_to_end/test_report.py",
    "tests/end_to_end/test_study.py",
    "tests/end_to_end/test_surroundings.py",
    "tests/studies/engine/test_deaths.py",
    "tests/studies/engine/test_schedulers.py",
    "tests/studies/runner/test_run.py",
    "tests/studies/runner/test_takeover.py",
)
