"""The store: rows by content, complete or absent, continued after a kill, shared by processes."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from avsc_core.cache import store
from avsc_core.cache.folders import locate_partial
from avsc_core.cache.store import (
    BLOCK,
    compute_in_batches,
    compute_in_processes,
    count_notes,
    load_or_compute,
    prune,
    read_rows,
    verify,
)
from avsc_core.data.tables import Clip
from avsc_core.errors import EnvironmentFault, UserError
from tests.builders.clips import COUNT, build_in, hash_clips, ignore_progress, write_clips
from tests.builders.disks import resize_disk, small_disk


def build(root: Path, clips: list[Clip], log: Path | None = None, workers: int = 1) -> np.ndarray:
    """Load or compute the array of the clips, in a folder named by what they hold."""
    contents = hash_clips(root, clips)
    folder = root / "features" / f"kind-settings-{abs(hash(tuple(contents)))}"
    return build_in(folder, clips, contents, workers, log=log)


def find_array(root: Path) -> Path:
    """Return the one folder of an array."""
    (folder,) = (path for path in (root / "features").iterdir() if path.is_dir())
    return folder


def pop_computed(log: Path) -> list[int]:
    """Return the numbers of the rows computed since the last call."""
    numbers = [int(line) for line in log.read_text().split()] if log.exists() else []
    log.unlink(missing_ok=True)
    return numbers


@pytest.mark.parametrize("workers", [1, 2])
def test_row_n_is_clip_n(tmp_path: Path, workers: int):
    array = build(tmp_path, write_clips(tmp_path / "a"), workers=workers)
    assert np.array_equal(array[:, 2], 2 * np.arange(COUNT))
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


def test_a_disk_that_is_too_small_is_one_line(tmp_path: Path):
    """Filling a memory map on a full disk would end this process by SIGBUS."""

    def compute(number: int) -> tuple[np.ndarray, str]:
        return np.full(100_000, number, dtype=np.float32), ""

    folder = tmp_path / "disk" / "kind-settings-clips"
    with small_disk(folder.parent, "200k"):
        rows = partial(compute_in_processes, compute, [1, 2], 1)
        line = rf"disk: {folder}\S* has 0\.2 MB free, an array needs 0\.8 MB; free some, the same"
        with pytest.raises(EnvironmentFault, match=line):
            load_or_compute(folder, ["a", "b"], rows, ignore_progress)
        resize_disk(folder.parent, "2m")
        array = load_or_compute(folder, ["a", "b"], rows, ignore_progress)
        assert array[:, 0].tolist() == [1, 2]


def test_an_array_that_was_cut_short_says_what_to_delete(tmp_path: Path):
    clips = write_clips(tmp_path / "a")
    build(tmp_path, clips)
    path = find_array(tmp_path) / "array.npy"
    os.truncate(path, path.stat().st_size // 2)
    todo = rf"delete {path.parent}: it is computed again"
    with pytest.raises(
        EnvironmentFault, match=rf"^{path}: is not an array of the cache \(.*\); {todo}$"
    ):
        build(tmp_path, clips)


def test_a_changed_or_added_file_costs_that_file(tmp_path: Path):
    log = tmp_path / "log"
    clips = write_clips(tmp_path / "a")
    build(tmp_path, clips, log)
    assert pop_computed(log) == list(range(COUNT))
    build(tmp_path, clips, log)
    assert pop_computed(log) == []
    clips[7].audio.write_text("1007")
    more = write_clips(tmp_path / "a", COUNT + 2)
    assert build(tmp_path, more, log)[[6, 7, 101], 1].tolist() == [6, 1007, 101]
    assert pop_computed(log) == [7, 100, 101]


def test_a_copy_elsewhere_costs_nothing(tmp_path: Path):
    log = tmp_path / "log"
    build(tmp_path, write_clips(tmp_path / "a"), log)
    pop_computed(log)
    array = build(tmp_path, write_clips(tmp_path / "b")[::-1], log)
    assert pop_computed(log) == []
    assert array[0, 1] == COUNT - 1


def test_faults_are_gathered_and_the_rest_is_kept(tmp_path: Path):
    log = tmp_path / "log"
    clips = write_clips(tmp_path / "a")
    for number in (3, 50):
        clips[number].audio.write_text("rubbish")
    with pytest.raises(UserError) as caught:
        build(tmp_path, clips, log)
    assert [Path(fault.where).name for fault in caught.value.faults] == ["3.wav", "50.wav"]
    assert not [
        path
        for path in (tmp_path / "features").iterdir()
        if not path.name.endswith((".partial", ".lock"))
    ]
    pop_computed(log)
    for number in (3, 50):
        clips[number].audio.write_text(str(number))
    assert np.array_equal(build(tmp_path, clips, log)[:, 1], np.arange(COUNT))
    assert pop_computed(log) == [3, 50]


def test_odd_lengths_are_counted(tmp_path: Path):
    clips = write_clips(tmp_path / "a", 20)
    clips[4].audio.write_text("-4")
    build(tmp_path, clips)
    folder = find_array(tmp_path)
    assert count_notes(folder) == {"padded": 1, "cropped": 0}


def test_damage_is_found_and_mended(tmp_path: Path):
    log = tmp_path / "log"
    clips = write_clips(tmp_path / "a")
    build(tmp_path, clips)
    folder = find_array(tmp_path)
    assert verify(folder, ignore_progress) == []
    damaged = np.load(folder / "array.npy", mmap_mode="r+")
    damaged[11, 3] += 1
    damaged.flush()
    assert verify(folder, ignore_progress) == [11]
    assert np.array_equal(build(tmp_path, clips, log)[:, 1], np.arange(COUNT))
    assert pop_computed(log) == [11]


def test_an_array_that_was_written_into_is_mended_before_it_is_used(tmp_path: Path):
    """Nobody asks for it; a value that differs would change every trial, and nobody would know."""
    log = tmp_path / "log"
    clips = write_clips(tmp_path / "a")
    build(tmp_path, clips)
    damaged = np.load(find_array(tmp_path) / "array.npy", mmap_mode="r+")
    damaged[11, 3] += 1
    damaged.flush()
    log.unlink(missing_ok=True)
    assert np.array_equal(build(tmp_path, clips, log)[:, 1], np.arange(COUNT))
    assert pop_computed(log) == [11]
    build(tmp_path, clips, log)
    assert pop_computed(log) == []


def test_unused_arrays_are_pruned(tmp_path: Path):
    build(tmp_path, write_clips(tmp_path / "a"))
    folder = find_array(tmp_path)
    assert prune(tmp_path / "features", days=30) == []
    os.utime(folder, (0, 0))
    assert prune(tmp_path / "features", days=30) == [folder]
    assert list((tmp_path / "features").iterdir()) == []


BUILDER = """
import sys
from pathlib import Path
import numpy as np
from tests.builders.clips import build_in, hash_clips, write_clips
root = Path(sys.argv[1])
clips = write_clips(root / "a")
folder = root / "features" / "kind-settings-clips"
array = build_in(folder, clips, hash_clips(root, clips), pause=0.005)
assert np.array_equal(array[:, 1], np.arange(len(clips))), array[:, 1]
print("whole")
"""


def start(root: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", BUILDER, str(root)]
    return subprocess.Popen(
        command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_four_processes_and_kills_in_between(tmp_path: Path):
    """Of four processes that want one array, two are killed; the others must complete it."""
    rng = np.random.default_rng(0)
    reference = None
    for number in range(20):
        root = tmp_path / str(number)
        write_clips(root / "a")
        running = [start(root) for _ in range(4)]
        for victim in running[:2]:
            time.sleep(float(rng.uniform(0, 1.2)))
            victim.send_signal(signal.SIGKILL)
        reported = [process.communicate(timeout=120)[0] for process in running]
        assert all("whole" in text for text in reported[2:])
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
    folder = tmp_path / "features" / "kind-settings-clips"
    partial_folder = locate_partial(folder)
    limit = time.monotonic() + 60
    while len(read_rows(partial_folder)) < BLOCK and time.monotonic() < limit:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(read_rows(partial_folder))
    assert BLOCK <= done < COUNT
    with (partial_folder / "rows.tsv").open("a") as file:
        file.write("99\ttorn")  # as a power cut leaves it
    log = tmp_path / "log"
    clips = write_clips(tmp_path / "a")
    array = build_in(folder, clips, hash_clips(tmp_path, clips), log=log)
    assert np.array_equal(array[:, 1], np.arange(COUNT))
    assert pop_computed(log) == list(range(done, COUNT))


def test_a_partial_array_is_continued(tmp_path: Path):
    asked: list[int] = []
    contents = [f"content {number}" for number in range(10)]

    def compute_batch(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        if len(asked) > 6 and not (tmp_path / "again").exists():
            raise KeyboardInterrupt
        return np.stack([rows, rows**2], 1).astype(np.float32)

    def load() -> np.ndarray:
        compute = partial(compute_in_batches, lambda: compute_batch, 3)
        return load_or_compute(tmp_path / "x" / "a", contents, compute, ignore_progress, block=3)

    with pytest.raises(KeyboardInterrupt):
        load()
    assert not (tmp_path / "x" / "a").exists()
    (tmp_path / "again").touch()
    asked.clear()
    array = load()
    assert asked == [6, 7, 8, 9]
    assert np.array_equal(array[:, 1], np.arange(10) ** 2)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["a", "a.lock"]
    fail = partial(compute_in_batches, lambda: pytest.fail("computed again"), 3)
    again = load_or_compute(tmp_path / "x" / "a", contents, fail, ignore_progress)
    assert again.shape == (10, 2)


def test_a_model_is_loaded_only_for_rows_that_cannot_be_copied(tmp_path: Path):
    loaded: list[str] = []

    def load(contents: list[str]) -> np.ndarray:
        def start() -> Callable[[np.ndarray], np.ndarray]:
            loaded.append("model")
            return lambda rows: np.array([[float(contents[row])] for row in rows])

        folder = tmp_path / f"kind-settings-{'_'.join(contents)}"
        return load_or_compute(
            folder, contents, partial(compute_in_batches, start, 2), ignore_progress
        )

    load(["1", "2", "3"])
    assert loaded == ["model"]
    assert load(["3", "1"])[:, 0].tolist() == [3, 1]
    assert loaded == ["model"]
    assert load(["3", "4"])[:, 0].tolist() == [3, 4]
    assert loaded == ["model", "model"]


def test_rows_of_a_folder_that_is_renamed_meanwhile_are_copied(tmp_path: Path):
    build(tmp_path, write_clips(tmp_path / "a", 3))
    folder = find_array(tmp_path)
    known = store._find_known_rows(folder.with_name("kind-settings-new.partial"))
    folder.rename(tmp_path / "renamed")
    assert [store._copy_row(*place).values[1] for place in known.values()] == [0, 1, 2]


def test_an_array_of_an_earlier_version_is_read(tmp_path: Path):
    folder = tmp_path / "frames-0123456789abcdef-fedcba9876543210"
    folder.mkdir()
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(folder / "array.npy", array)
    sums = [hashlib.sha256(row.tobytes()).hexdigest() for row in array]
    lines = f"1\t{'b' * 64}\t{sums[1]}\t\n0\t{'a' * 64}\t{sums[0]}\tpadded\n"
    (folder / "rows.tsv").write_text(lines)

    def fail(numbers: Sequence[int]) -> Iterator[store.Results]:
        pytest.fail(f"computed {numbers}")

    same = load_or_compute(folder, ["a" * 64, "b" * 64], fail, ignore_progress)
    assert np.array_equal(same, array)
    assert verify(folder, ignore_progress) == []
    assert count_notes(folder) == {"padded": 1, "cropped": 0}
    other = folder.with_name("frames-0123456789abcdef-0000000000000000")
    copied = load_or_compute(other, ["b" * 64, "a" * 64], fail, ignore_progress)
    assert np.array_equal(copied, array[::-1])
