"""Figures of the paper: Tables I to V in the study files (read by studies/study/reading.py), in
published.csv beside this file, and in the paper's text, which is not part of this repository.

A row of published.csv has its table and row, what it is about, Acc in percent and Logloss, all as
printed; Tables I and V print no Logloss.
"""

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from studies.study.metadata import configuration_key
from studies.study.reading import read_study
from studies.study.schema import Arm
from tests.builders.studies import STUDIES

FIGURES = Path(__file__).parent / "published.csv"

# The text of the paper, where somebody has it.
DEFAULT_PAPER = STUDIES.parent.parent / "shared" / "paper" / "hou2022.txt"
PAPER = Path(os.environ.get("AVSC_PAPER", DEFAULT_PAPER))

STUDY_OF_TABLE = {"I": "k_mode", "II": "modules", "III": "lambda", "IV": "modality", "V": "systems"}
MODALITIES = {"audio": "Audio", "visual": "Visual", "audio-visual": "Audio + Visual"}


class Figures(NamedTuple):
    """A row of a table as printed; `logloss` is empty where the table has none."""

    table: str
    row: str
    what: str
    acc: str
    logloss: str


def read_figures() -> list[Figures]:
    """Read the checked-in figures."""
    with FIGURES.open(encoding="utf-8", newline="") as file:
        return [Figures(**row) for row in csv.DictReader(file)]


def read_arms(study: str) -> tuple[Arm, ...]:
    """Read the arms of a study that ships, on the paper's preset."""
    return read_study(STUDIES / f"{study}.yaml", preset="paper").arms


def describe(arm: Arm, table: str) -> str:
    """Say what an arm is about in the words of its table, from its configuration."""
    config = arm.config
    if table == "I":
        return f"{config.alignment.mode.upper()}, K {config.alignment.k}"
    if table == "II":
        has = {"SF": config.fusion.kind == "semantic", "CEOA": config.alignment.enabled}
        return " + ".join(["Backbone", *(name for name in has if has[name])])
    if table == "III":
        return " ".join(f"{weight:g}" for weight in config.loss_weights.model_dump().values())
    if table == "IV":
        return MODALITIES[config.modality]
    return arm.name


@pytest.mark.parametrize("table", STUDY_OF_TABLE)
def test_study_files_have_the_figures_of_the_paper(table: str):
    found = []
    for arm in read_arms(STUDY_OF_TABLE[table]):
        published = arm.published
        assert published is not None
        assert published.table == table
        found.append((str(published.row), describe(arm, table), published.acc, published.logloss))

    printed = []
    for figures in read_figures():
        if figures.table == table:
            acc = round(float(figures.acc) / 100, 4)
            logloss = float(figures.logloss) if figures.logloss else None
            printed.append((figures.row, figures.what, acc, logloss))
    assert sorted(found) == sorted(printed)


@pytest.mark.skipif(not PAPER.exists(), reason="the text of the paper is not here (AVSC_PAPER)")
def test_the_figures_are_those_of_the_papers_text():
    assert list(read_tables(PAPER.read_text(encoding="utf-8"))) == read_figures()


def read_tables(text: str) -> Iterator[Figures]:
    """Yield the rows of the paper's five tables, whose cells are separated by TAB in its text."""
    tables = re.findall(r"^TABLE (\w+) *\n.*\n\n((?:.*\t.*\n)+)", text, re.M)
    for table, lines in tables:
        plain = re.sub(r"</?b>", "", lines)
        header, *rows = [line.split("\t") for line in plain.splitlines()]
        for number, *cells in rows:
            if table == "I":
                for k, acc in zip(header[1:], cells, strict=True):
                    row = f"{number}, K {k}"
                    yield Figures(table, row, row, acc, "")
            elif table == "III":
                yield Figures(table, number, " ".join(cells[:5]), *cells[5:])
            elif table == "V":
                system = re.sub(r" \[\d+\]$", "", cells[0])
                yield Figures(table, number, system, cells[4], "")
            else:
                ticks = zip(header[1:], cells[:-2], strict=False)
                what = " + ".join(name for name, tick in ticks if tick == "✓")
                yield Figures(table, number, what, *cells[-2:])


def test_rows_that_tables_share_are_one_training():
    keys = {}
    for table, study in STUDY_OF_TABLE.items():
        for arm in read_arms(study):
            assert arm.published is not None
            keys[table, str(arm.published.row)] = configuration_key(arm.config)

    assert keys["I", "LKM, K 15"] == keys["II", "4"] == keys["III", "1"]
    assert keys["III", "6"] == keys["IV", "3"] == keys["V", "10"]
    # No others are: four of the 43 rows are the training of an earlier row.
    assert len(keys) == 43
    assert len(set(keys.values())) == len(keys) - 4
