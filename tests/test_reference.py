"""The schema of study files and the page of settings: both are what the code says today."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest
import yaml

from avsc_core.resolve import list_fields
from studies.study.tables import SHIPPED, list_shipped

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """Import docs/reference.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def schema(reference: ModuleType) -> dict[str, object]:
    made = json.loads(reference.make_schema())
    jsonschema.Draft202012Validator.check_schema(made)
    return made


def list_faults(schema: dict[str, object], text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    return [fault.message for fault in validator.iter_errors(yaml.safe_load(text))]


def test_both_files_are_current(reference: ModuleType):
    """`make reference` writes them."""
    assert reference.SCHEMA.read_text() == reference.make_schema()
    assert reference.REFERENCE.read_text() == reference.make_reference()


@pytest.mark.parametrize("name", list_shipped())
def test_every_study_that_ships_fits_the_schema(schema: dict[str, object], name: str):
    text = (SHIPPED / f"{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    assert list_faults(schema, text) == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{question: q, base: {training.epoch: 3}}", "training.epoch"),
        ("{question: q, base: {training: {epochs: 0}}}", "0"),
        ("{question: q, base: {alignment.mode: lmk}}", "lmk"),
        ("{question: q, arms: [{name: a, set: {fusoin: {}}}]}", "fusoin"),
        ("{question: q, metric: acc}", "acc"),
        ("{question: q, preset: papre}", "papre"),
        ("{question: q, search: {space: {alignment.k: {low: 1, hihg: 3}}}}", "hihg"),
        ("{question: q, search: {space: {fusoin.kind: [none]}}}", "fusoin.kind"),
        ("{question: q, metric: []}", "[]"),
        ("{question: q, seeds: 3}", "3"),
        ("{qestion: q}", "qestion"),
        ("{base: {}}", "question"),
    ],
)
def test_what_is_wrong_is_found(schema: dict[str, object], text: str, word: str):
    assert any(word in fault for fault in list_faults(schema, text))


@pytest.mark.parametrize(
    "text",
    [
        "{question: q, seeds: {until: told, at most: 9}}",
        "{question: q, metric: [val_acc, val_logloss]}",
        "{question: q, best-of: lambda, ladder: [{training.epochs: 3}, demo]}",
        "{question: q, search: {space: {loss_weights: , alignment.mode: [lkm]}}}",
    ],
)
def test_what_is_right_is_not(schema: dict[str, object], text: str):
    assert list_faults(schema, text) == []


def test_the_page_has_every_setting(reference: ModuleType):
    page = reference.make_reference()
    missing = {key for key in list_fields() if f"| `{key}` |" not in page}
    assert not missing
