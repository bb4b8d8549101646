"""What the record keeps of a study beside its trials: what a report needs to say what was asked, and how to repeat it.

`about.json`, written at every sitting: question and source, arms with their factors and published figures; and of every
sitting that trained anything the command and the versions. `clips_val.tsv`: the validation clips with their true scene
and location, in the order of every trial's predictions.
"""

import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from avsc_core import __version__
from avsc_core.config import Config
from avsc_core.data.dataset import DataSet, split_rows
from avsc_core.resolve import flatten, format_value, resolve, trial_key
from search_spaces.space import reset_inactive
from studies.study.plan import Plan, reseed
from studies.study.schema import Study

LIBRARIES = ("torch", "timm", "ray", "optuna", "mlflow")
PASSWORD = re.compile(r"(://[^/@\s:]*:)[^@\s]*@")


def describe_study(plan: Plan) -> dict[str, Any]:
    """What a study is, as JSON."""
    study = plan.study
    return {
        "question": study.question,
        "source": study.source,
        "preset": study.preset,
        "changed": _changed(study),
        "best_of": study.best_of,
        "metrics": list(study.metrics),
        "seeds": list(study.seeds),
        "design": study.design,
        "retune": study.retune,
        "arms": [
            {
                "name": arm.name,
                "row": configuration_key(arm.config),
                "levels": dict(arm.levels),
                "note": arm.note,
                "missing": plan.missing.get(arm.name, ""),
                "published": arm.published and arm.published.model_dump(),
            }
            for arm in study.arms
        ],
        "searches": [
            {
                "name": search.name,
                "trials": search.trials,
                "has_arm": search.point(reset_inactive(reseed(search.base, search.seed)))
                is not None,
            }
            for search in plan.searches
        ],
        "ladder": study.final is not None,
        "file": study.path.name,
        "text": study.path.read_text(
            encoding="utf-8-sig"
        ),  # for people: what the study was when it last ran
    }


def _changed(study: Study) -> list[str]:
    """What the base has otherwise than its preset."""
    if study.best_of:
        return []
    usual = dict(flatten(resolve(study.preset).model_dump()))
    own = dict(flatten(study.base.model_dump()))
    return [f"{key} {format_value(value)}" for key, value in own.items() if value != usual[key]]


def describe_invocation() -> dict[str, str]:
    """How a sitting of a study was started and by what, without the password of a record's address."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    at = read_commit()
    return {
        "command": PASSWORD.sub(r"\1...@", shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        "avsc": __version__ + (f", commit {at}" if at else ""),
        "libraries": libraries,
    }


def configuration_key(config: Config) -> str:
    """Names a configuration whatever its seed: trials with the same are one row of a table."""
    return trial_key(reseed(config, 0))


def format_clips(data: DataSet, config: Config) -> str:
    """filename, scene and location of the validation clips, TAB-separated."""
    rows = split_rows(data, config.split).validation
    lines = [
        "\t".join(
            (data.clips[row].name, data.scene_names[data.scenes[row]], data.clips[row].location)
        )
        for row in rows
    ]
    return "\n".join(["filename\tscene\tlocation", *lines]) + "\n"


def read_commit() -> str:
    """The commit that the code was at, with a mark when files differed from it; empty without git."""
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
