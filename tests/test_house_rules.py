"""The rules of this repository: which module imports which, and which imports stay cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "ray", "mlflow", "optuna")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def owners(library: str) -> set[str]:
    found = [
        path for package in ("avsc_core", "search_spaces", "studies") for path in files(package)
    ]
    users = [path for path in found if any(name.split(".")[0] == library for name in imports(path))]
    return {str(path.relative_to(ROOT)) for path in users}


def test_packages_import_in_one_direction():
    for path in files("avsc_core"):
        assert not {name.split(".")[0] for name in imports(path)} & {"search_spaces", "studies"}, (
            path
        )
    allowed = {"avsc_core.config", "avsc_core.resolve", "avsc_core.errors", "avsc_core.yaml_file"}
    for path in files("search_spaces"):
        names = imports(path)
        assert not {name for name in names if name.startswith("studies")}, path
        assert {name for name in names if name.startswith("avsc_core")} <= allowed, path


def test_each_framework_has_its_place():
    assert {Path(path).parent for path in owners("ray")} == {
        Path("studies/cluster"),
        Path("studies/engine"),
    }
    assert {Path(path).parent for path in owners("mlflow")} == {
        Path("avsc_core/record"),
        Path("avsc_core/record/reading"),
    }
    assert owners("optuna") == {"search_spaces/sampling.py", "search_spaces/importance.py"}
    assert owners("umap") == {"avsc_core/evaluation/class_map.py"}
    assert owners("typer") <= {"avsc_core/cli.py", "avsc_core/terminal.py", "studies/cli.py"}


def test_rooms_of_studies_know_only_what_they_stand_on():
    known = {
        "study": {"study"},
        "cluster": {"cluster", "study"},
        "engine": {"engine", "cluster", "study"},
        "runner": {"runner", "engine", "cluster", "study"},
        "report": {"report", "study"},
    }
    for room, others in known.items():
        for path in files(f"studies/{room}"):
            names = {name.split(".")[1] for name in imports(path) if name.startswith("studies.")}
            assert names <= others, path


def test_no_folder_is_crowded():
    for package in ("avsc_core", "search_spaces", "studies"):
        folders = {path.parent for path in files(package)}
        for folder in folders:
            modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
            assert len(modules) <= 13, folder


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import avsc_core", HEAVY),
        ("import avsc_core; avsc_core.load_config('demo'); avsc_core.UserError", HEAVY),
        ("import avsc_core.config, avsc_core.cli", HEAVY),
        ("import studies.cli, studies.study.plan", HEAVY),
        ("import studies.report.status, studies.runner.standing", ("ray", "torch", "mlflow")),
        ("import studies.report.build, studies.report.render", ("ray", "torch", "mlflow")),
        (
            "import avsc_core.evaluation.evaluate, avsc_core.trainer.loop",
            ("ray", "mlflow", "optuna"),
        ),
    ],
)
def test_imports_stay_light(statement: str, absent: tuple[str, ...]):
    code = f"{statement}; import sys; print([name for name in {absent} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
