"""One finished study for all end-to-end tests."""

from pathlib import Path

import pytest

from tests.builders.places import Place


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Place:
    """A folder without a record; the study below makes it."""
    return Place(tmp_path_factory.mktemp("place"), scenes, record=False)


@pytest.fixture(scope="session")
def finished(place: Place) -> tuple[str, str]:
    """The study, run to its end; what it printed."""
    return place.run(*place.run_study)
