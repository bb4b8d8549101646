"""What docs/architecture.md promises under "Adding to it", done to a copy of the packages.

A fusion (avsc_core/model/fusion.py), a dimension (search_spaces/catalogue.py) and a study, each
with the files that adding it touches.
"""

import itertools
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("avsc_core", "search_spaces", "studies")
FUSION = '''
class Sum(nn.Module):
    """Both branches' embeddings added."""

    def __init__(self, parts: FusionParts) -> None:
        super().__init__()
        self.layer = parts.layer(parts.embedding)

    def forward(self, branches: Branches) -> Tensor:
        assert branches.event_embedding is not None
        assert branches.object_embedding is not None
        return self.layer(branches.event_embedding + branches.object_embedding)


FUSIONS: dict'''
TRY_IT = """
import torch
from avsc_core.resolve import parse_set, resolve
from avsc_core.model import build_model
model = build_model(resolve("demo", parse_set(["fusion.kind=sum"])))
print(tuple(model(torch.randn(2, 256, 128), torch.randn(2, 4, 3, 64, 64)).scene_logits.shape))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def touched(copy: Path) -> list[str]:
    """Files that differ from ours, or that we do not have."""
    found = [
        path.relative_to(copy)
        for package in PACKAGES
        for path in (copy / package).rglob("*")
        if path.is_file()
    ]
    return sorted(
        str(path)
        for path in found
        if "__pycache__" not in path.parts and not same(ROOT / path, copy / path)
    )


def same(one: Path, other: Path) -> bool:
    return one.is_file() and one.read_bytes() == other.read_bytes()


def run(copy: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(copy: Path, study: str) -> str:
    return run(copy, "-c", "from studies.cli import main; main()", "check", study)


def test_a_fusion_is_two_files(copy: Path):
    edit(copy / "avsc_core/model/fusion.py", "\nFUSIONS: dict", FUSION)
    edit(copy / "avsc_core/model/fusion.py", '    "hybrid": ', '    "sum": Sum,\n    "hybrid": ')
    edit(
        copy / "avsc_core/config.py",
        '"decision", "hybrid"] = "semantic"',
        '"decision", "hybrid", "sum"] = "semantic"',
    )
    assert touched(copy) == ["avsc_core/config.py", "avsc_core/model/fusion.py"]
    assert run(copy, "-c", TRY_IT).strip() == "(2, 10)"
    (copy / "mine.yaml").write_text(
        "question: q\nsearch: {space: {fusion.kind: [semantic, sum]}, trials: 2}\n"
    )
    assert "fine" in check(copy, "mine.yaml")  # it can be searched without another word


def test_a_dimension_is_one_file(copy: Path):
    line = '    "fusion.hidden": '
    edit(
        copy / "search_spaces/catalogue.py", line, f'    "fusion.head_width": Int(8, 128),\n{line}'
    )
    assert touched(copy) == ["search_spaces/catalogue.py"]
    (copy / "mine.yaml").write_text(
        "question: q\nsearch: {space: {fusion.head_width: {high: 64}}, trials: 2}\n"
    )
    assert "fine" in check(copy, "mine.yaml")


def test_a_study_is_one_file(copy: Path):
    """The example of docs/studies.md, an indented block, passes the check as it stands."""
    section = (ROOT / "docs" / "studies.md").read_text().split("\n## A whole file\n")[1]
    block = itertools.takewhile(
        lambda line: not line or line.startswith("    "), section.splitlines()
    )
    study = textwrap.dedent("\n".join(block))
    assert study.strip().startswith("question: ")
    (copy / "studies" / "k.yaml").write_text(study)
    assert touched(copy) == ["studies/k.yaml"]
    assert "fine" in check(copy, "studies/k.yaml")
