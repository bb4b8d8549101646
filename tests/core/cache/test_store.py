"""The feature store: rows by content, whole or not there, continued after any death, shared by processes."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from avsc_core.cache.contents import hash_files
from avsc_core.cache.store import BLOCK, count_notes, load_or_compute, prune, read_rows, verify
from avsc_core.data.tables import Clip
from avsc_core.errors import UserError
from tests.builders.clips import COUNT, compute_row, hash_clips, write_clips


def build(root: Path, given: list[Clip], log: Path | None = None, workers: int = 1) -> np.ndarray:
    content = hash_clips(root, given)
    name = f"kind-settings-{abs(hash(tuple(content)))}"
    return load_or_compute(
        root / "features" / name,
        given,
        content,
        partial(compute_row, log=log),
        workers,
        lambda done, total: None,
    )


def asked(log: Path) -> list[int]:
    found = [int(line) for line in log.read_text().split()] if log.exists() else []
    log.unlink(missing_ok=True)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_row_n_is_clip_n(tmp_path: Path, workers: int):
    array = build(tmp_path, write_clips(tmp_path / "a"), workers=workers)
    assert np.array_equal(array[:, 2], 2 * np.arange(COUNT))
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


def test_a_changed_or_added_file_costs_that_file(tmp_path: Path):
    log, given = tmp_path / "log", write_clips(tmp_path / "a")
    build(tmp_path, given, log)
    assert asked(log) == list(range(COUNT))
    build(tmp_path, given, log)
    assert asked(log) == []
    given[7].audio.write_text("1007")
    more = write_clips(tmp_path / "a", COUNT + 2)
    assert build(tmp_path, more, log)[[6, 7, 101], 1].tolist() == [6, 1007, 101]
    assert asked(log) == [7, 100, 101]


def test_a_copy_elsewhere_costs_nothing(tmp_path: Path):
    log = tmp_path / "log"
    build(tmp_path, write_clips(tmp_path / "a"), log)
    asked(log)
    array = build(tmp_path, write_clips(tmp_path / "b")[::-1], log)
    assert asked(log) == []
    assert array[0, 1] == COUNT - 1


def test_faults_are_gathered_and_the_rest_is_kept(tmp_path: Path):
    log, given = tmp_path / "log", write_clips(tmp_path / "a")
    for number in (3, 50):
        given[number].audio.write_text("rubbish")
    with pytest.raises(UserError) as caught:
        build(tmp_path, given, log)
    assert [Path(fault.where).name for fault in caught.value.faults] == ["3.wav", "50.wav"]
    assert not [
        path
        for path in (tmp_path / "features").iterdir()
        if not path.name.endswith((".partial", ".lock"))
    ]
    asked(log)
    for number in (3, 50):
        given[number].audio.write_text(str(number))
    assert np.array_equal(build(tmp_path, given, log)[:, 1], np.arange(COUNT))
    assert asked(log) == [3, 50]


def test_odd_lengths_are_counted(tmp_path: Path):
    given = write_clips(tmp_path / "a", 20)
    given[4].audio.write_text("-4")
    build(tmp_path, given)
    (folder,) = (path for path in (tmp_path / "features").iterdir() if path.is_dir())
    assert count_notes(folder) == {"padded": 1, "cropped": 0}


def test_damage_is_found_and_mended(tmp_path: Path):
    log, given = tmp_path / "log", write_clips(tmp_path / "a")
    build(tmp_path, given)
    (folder,) = (path for path in (tmp_path / "features").iterdir() if path.is_dir())
    assert verify(folder, lambda done, total: None) == []
    damaged = np.load(folder / "array.npy", mmap_mode="r+")
    damaged[11, 3] += 1
    damaged.flush()
    assert verify(folder, lambda done, total: None) == [11]
    assert np.array_equal(build(tmp_path, given, log)[:, 1], np.arange(COUNT))
    assert asked(log) == [11]


def test_what_nobody_uses_is_pruned(tmp_path: Path):
    build(tmp_path, write_clips(tmp_path / "a"))
    (folder,) = (path for path in (tmp_path / "features").iterdir() if path.is_dir())
    assert prune(tmp_path / "features", days=30) == []
    os.utime(folder, (0, 0))
    assert prune(tmp_path / "features", days=30) == [folder]
    assert list((tmp_path / "features").iterdir()) == []


def test_contents_are_read_once(tmp_path: Path):
    given = write_clips(tmp_path / "a", 5)
    told: list[int] = []
    paths = [clip.audio for clip in given]
    first = hash_files(tmp_path / "i.json", paths, lambda done, total: told.append(total))
    assert told == [5] * 5
    told.clear()
    paths[2].write_text("changed")
    second = hash_files(
        tmp_path / "i.json", [*paths, tmp_path / "absent"], lambda done, total: told.append(total)
    )
    assert told == [2, 2]
    assert [a == b for a, b in zip(first, second, strict=False)] == [True, True, False, True, True]
    assert second[5] == f"{tmp_path / 'absent'}: No such file or directory"


BUILDER = """
import sys
from functools import partial
from pathlib import Path
import numpy as np
from avsc_core.cache.store import load_or_compute
from tests.builders.clips import compute_row, hash_clips, write_clips
root = Path(sys.argv[1])
given = write_clips(root / "a")
array = load_or_compute(root / "features" / "kind-settings-clips", given, hash_clips(root, given),
               partial(compute_row, pause=0.005), 1, lambda done, total: None)
assert np.array_equal(array[:, 1], np.arange(len(given))), array[:, 1]
print("whole")
"""


def start(root: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", BUILDER, str(root)]
    return subprocess.Popen(
        command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_four_processes_and_kills_in_between(tmp_path: Path):
    """Twenty rounds: four processes want one array, two are killed at a random moment, the others must end whole."""
    rng = np.random.default_rng(0)
    reference = None
    for number in range(20):
        root = tmp_path / str(number)
        write_clips(root / "a")
        running = [start(root) for _ in range(4)]
        for victim in running[:2]:
            time.sleep(float(rng.uniform(0, 1.2)))
            victim.send_signal(signal.SIGKILL)
        told = [process.communicate(timeout=120)[0] for process in running]
        assert all("whole" in text for text in told[2:])
        folder = root / "features" / "kind-settings-clips"
        assert [
            path.name for path in folder.parent.iterdir() if path.name.endswith(".partial")
        ] == []
        assert sorted(row.number for row in read_rows(folder)) == list(range(COUNT))
        reference = reference or (folder / "array.npy").read_bytes()
        assert (folder / "array.npy").read_bytes() == reference


def test_a_killed_build_goes_on(tmp_path: Path):
    write_clips(tmp_path / "a", 100)
    process = start(tmp_path)
    half = tmp_path / "features" / "kind-settings-clips.partial"
    limit = time.monotonic() + 60
    while len(read_rows(half)) < BLOCK and time.monotonic() < limit:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(read_rows(half))
    assert BLOCK <= done < COUNT
    with (half / "rows.tsv").open("a") as file:
        file.write("99\ttorn")  # as a power cut leaves it
    log, given = tmp_path / "log", write_clips(tmp_path / "a")
    content = hash_clips(tmp_path, given)
    array = load_or_compute(
        half.with_suffix(""),
        given,
        content,
        partial(compute_row, log=log),
        1,
        lambda done, total: None,
    )
    assert np.array_equal(array[:, 1], np.arange(COUNT))
    assert asked(log) == list(range(done, COUNT))
