"""Folders that are built once: complete or absent, whatever a killed process left."""

from pathlib import Path

import pytest

from avsc_core.cache.folders import build_once


def test_what_a_killed_process_left_is_thrown_away(tmp_path: Path):
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "x.partial" / "rubbish").touch()
    build_once(tmp_path / "x", lambda folder: (folder / "whole").touch())
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["whole"]
    with pytest.raises(RuntimeError):
        build_once(tmp_path / "y", lambda folder: (_ for _ in ()).throw(RuntimeError))
    assert not (tmp_path / "y").exists()


def test_what_a_killed_process_left_is_continued(tmp_path: Path):
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "x.partial" / "first").touch()
    build_once(tmp_path / "x", lambda folder: (folder / "second").touch(), continue_partial=True)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["first", "second"]
    build_once(tmp_path / "x", lambda folder: pytest.fail("built again"))
