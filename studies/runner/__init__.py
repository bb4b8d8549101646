"""The runner: study file -> plan -> trials -> record -> tables."""
