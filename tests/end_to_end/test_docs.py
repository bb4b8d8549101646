"""README.md and docs/: every command of every page is run, on small data, in the order of the page.

A command is a line of an indented block that begins with avsc-core or avsc-search. What it names is
replaced by something small: the data set by three clips of every scene, published weights by
random ones in the published layout, and configurations by one that trains in a second. Covers
avsc_core/cli.py and studies/cli.py.
"""

import re
import shlex
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
import torch

from tests.builders.configs import TINY_OPTIONS
from tests.builders.places import Place
from tests.builders.weights import (
    AST,
    CONVNEXT,
    reference_ast,
    reference_convnext,
    save_ast,
)

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ON_SEVERAL_MACHINES = ROOT / "docs" / "cluster.md"  # whose commands test_machines.py runs
PUBLISHED_OPTIONS = [word for setting in (*AST, *CONVNEXT) for word in ("--set", setting)]


def list_commands(page: Path) -> list[list[str]]:
    """List the commands of a page, each as its words; a line that ends in \\ continues."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^ {4}(?:\.venv/bin/)?(avsc-(?:core|search) .*)$", text, re.M)
    return [shlex.split(line, comments=True) for line in lines]


class Desk:
    """A folder with all that the pages speak of."""

    def __init__(self, folder: Path, scenes: Path) -> None:
        self.place = Place(folder, scenes)
        (folder / "studies").symlink_to(ROOT / "studies")
        shutil.copytree(scenes, folder / "TAU")
        clip = next((folder / "TAU" / "video").glob("*.mp4"))
        convnext = folder / "convnext.pth"
        torch.save(reference_convnext().state_dict(), convnext)
        self.names = {
            "/data/TAU": str(folder / "TAU"),
            "$AST": str(save_ast(reference_ast(), "current", folder / "ast")),
            "$CONVNEXT": str(convnext),
            "CLIP.mp4": str(clip),
        }

    def follow(self, words: list[str]) -> None:
        """Run a command of a page on small data."""
        for name, value in self.names.items():
            words = [word.replace(name, value) for word in words]
        command = words[1]

        # Studies and trainings: small data, a small model, no GPU.
        if command == "features":
            words = [word.replace("paper", "demo") for word in words]
        if command in ("run", "plan", "features"):
            weights = any("weights=" in word for word in words)
            words += [*TINY_OPTIONS, "--set", "training.epochs=1"]
            words += [*PUBLISHED_OPTIONS, "--name", "published"] if weights else []
            words = words if "--preset" in words else [*words, "--preset", "demo"]
            words += ["--trials", "2"] if command == "run" and words[2] != "paper" else []
        if command in ("run", "plan", "train", "evaluate") and "--data" not in words:
            words += ["--data", self.names["/data/TAU"]]
        if "--gpus" in words:
            place = words.index("--gpus")
            words = words[:place] + words[place + 2 :]

        # The labels of the embedded scenes are true ones, which are not overwritten.
        if command == "pseudo":
            words += ["--out", "labels.npz", *PUBLISHED_OPTIONS]

        # A study starts Ray, so it gets a process of its own.
        start = self.place.run if command == "run" else self.place.call
        start(*words)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Desk:
    """A folder in which study lambda has run and its winner was retrained."""
    desk = Desk(tmp_path_factory.mktemp("desk"), scenes)
    desk.follow(["avsc-search", "run", "studies/lambda.yaml"])
    desk.follow(["avsc-core", "train", "--best", "--study", "lambda"])
    return desk


def test_pages_have_commands():
    assert sum(len(list_commands(page)) for page in PAGES) > 40


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != ON_SEVERAL_MACHINES], ids=lambda page: page.stem
)
def test_commands_run(desk: Desk, page: Path):
    for number, words in enumerate(list_commands(page)):
        if words[:2] == ["avsc-search", "ui"]:
            continue  # it becomes MLflow's server and does not end
        if words[1] == "demo-data":
            words[2] += f"-{page.stem}-{number}"
            words += ["--clips-per-scene", "3"]
        desk.follow(words)


def test_scripts_can_be_read():
    (script,) = re.findall(
        r"^ {4}#!/bin/bash\n(?:\n? {4}.*\n)+", ON_SEVERAL_MACHINES.read_text(), re.M
    )
    subprocess.run(["bash", "-n"], input=textwrap.dedent(script), text=True, check=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target
