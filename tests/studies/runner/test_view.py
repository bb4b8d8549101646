"""What a machine sees of a study, compared with what the driver sees."""

from pathlib import Path

import pytest

from avsc_core.config import Config
from avsc_core.data.dataset import DataSet
from studies.runner.view import Found, View, compare, look, put_markers

SHARE = "put them there, or share their folder at the same path"


@pytest.fixture
def view(data: DataSet, tiny: Config, tmp_path: Path) -> View:
    """What this machine sees, with a file of weights, while the driver's markers are gone."""
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"12345")
    audio = tiny.audio.model_copy(update={"weights": str(weights)})
    configs = [tiny, tiny.model_copy(update={"audio": audio})]
    return look(configs, data, tmp_path / "cache", tmp_path / "state", "marker")


def test_the_driver_itself_lacks_nothing(view: View):
    with put_markers(view.cache, view.state) as marker:
        assert compare(view._replace(marker=marker)) == Found([], True, True)
    assert not list(view.cache.iterdir())
    assert not list(view.state.iterdir())


def test_folders_that_are_not_shared_are_no_fault(view: View):
    assert compare(view) == Found([], False, False)


def test_weights_of_another_size_are_named(view: View):
    (path,) = view.weights
    path.write_bytes(b"1")
    assert compare(view).faults == [(f"lacks 1 of 1 files of the weights, such as {path}", SHARE)]


def test_media_count_only_without_a_shared_cache(view: View, data: DataSet):
    assert len(view.media) == 2 * len(data.clips)
    missing = Path("/nowhere/a.wav")
    view = view._replace(media={missing: 1, data.clips[0].audio: view.media[data.clips[0].audio]})
    what = f"lacks 1 of 2 files of the data, such as {missing}"
    todo = f"{SHARE}, or share the driver's cache folder (AVSC_CACHE)"
    assert compare(view).faults == [(what, todo)]
    with put_markers(view.cache) as marker:
        assert not compare(view._replace(marker=marker)).faults


@pytest.mark.parametrize(("field", "name"), [("cache", "AVSC_CACHE"), ("state", "AVSC_STATE")])
def test_a_folder_that_cannot_be_written_is_named(
    view: View, tmp_path: Path, field: str, name: str
):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "folder"
    view = view._replace(media={}, **{field: folder})
    what = f"cannot write into {folder} (Not a directory)"
    assert compare(view).faults == [(what, f"set {name} to another folder")]


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("recipe", "another", ("has other code of avsc than the driver", "install the same avsc")),
        (
            "libraries",
            "torch 1.0",
            ("has {libraries}, the driver torch 1.0", "install the same versions"),
        ),
    ],
)
def test_code_and_libraries_are_compared(
    view: View, field: str, value: str, fault: tuple[str, str]
):
    libraries = ", ".join(sorted(view.libraries.split(", ")))
    what, todo = fault
    found = compare(view._replace(media={}, **{field: value}))
    assert found.faults == [(what.format(libraries=libraries), todo)]
