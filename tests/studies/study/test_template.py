"""A study of one's own begins as one that ships, and is a study at once."""

from pathlib import Path

import pytest

from avsc_core.errors import UserError
from studies.study.reading import read_study
from studies.study.tables import SHIPPED, list_shipped
from studies.study.template import write_study_file


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("source", list_shipped())
def test_every_study_that_ships_can_be_begun_with(source: str):
    path = write_study_file("mine", source)
    # Tables are other files beside the one that ships.
    if "tables:" in path.read_text() or "best-of:" in path.read_text():
        return
    study = read_study(path)
    assert study.name == "mine"
    assert study.question == read_study(SHIPPED / f"{source}.yaml").question


def test_its_editor_finds_the_schema_and_its_comments_the_file():
    text = write_study_file("mine", "lambda").read_text()
    schema = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert Path(schema).is_file()
    assert "avsc-search run mine.yaml" in text
    assert "studies/lambda.yaml" not in text


@pytest.mark.parametrize(
    ("name", "source", "told"),
    [
        ("mine", "lamda", "--from: no study 'lamda' ships; did you mean 'lambda'?"),
        ("a/b", "lambda", "NAME: 'a/b' is not a name; letters, digits, _ and -"),
        ("here", "lambda", "NAME: here.yaml exists already; give another name"),
    ],
)
def test_what_is_refused(name: str, source: str, told: str):
    Path("here.yaml").write_text("mine")
    with pytest.raises(UserError) as caught:
        write_study_file(name, source)
    assert str(caught.value).startswith(told)
    assert Path("here.yaml").read_text() == "mine"
