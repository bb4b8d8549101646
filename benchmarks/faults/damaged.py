"""Files that are cut off or changed, and disks that are full."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.faults import forked
from benchmarks.faults.attempt import Attempt, Undisturbed, make_random, run_with_ray
from benchmarks.faults.forked import Strike
from benchmarks.faults.place import BASE, Ending, Place

Damage = Callable[[Path], None]


def damage_checkpoints(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Cut checkpoints off, empty them, and flip bits in them."""
    damages: dict[str, Damage] = {"empty": partial(_cut, 0.0)}
    for share in (0.05, 0.3, 0.6, 0.9, 0.999):
        damages[f"cut off at {share:.1%}"] = partial(_cut, share)
    for number in range(14):
        damages[f"bit {number} flipped"] = partial(_flip, make_random(f"bit {number}").random())
    for name, damage in damages.items():
        # The third checkpoint that is written is that of the first trial after three epochs.
        disturb = partial(_kill_after_checkpoint, 3)
        yield Attempt(name, disturb, damage=partial(_damage_checkpoints, damage))


def damage_cache(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Cut arrays of the cache off and flip bits in them, between a kill and the next command.

    The next command may refuse such a cache in a line; its features are then put back, as if they
    had been computed again, and the study is continued.
    """
    damages: dict[str, Damage] = {"empty": partial(_cut, 0.0), "cut off": partial(_cut, 0.7)}
    for number in range(6):
        # The last third are the test clips, which the study does not read.
        share = 0.05 + 0.6 * make_random(f"cache {number}").random()
        damages[f"bit {number} flipped"] = partial(_flip, share)
    for name, damage in damages.items():
        yield Attempt(
            name,
            partial(_kill_with_own_cache, 3),
            damage=partial(_damage_arrays, damage),
            proceed=_continue_or_mend,
        )


def fill_disks(undisturbed: Undisturbed) -> Iterator[Attempt]:
    """Let the disk of the checkpoints, the record, the cache and temporary files be full."""
    if os.geteuid():
        print("  full disks: not tried, because mounting needs root")
        return
    # A checkpoint has 360 kB, and the one before it stays until it is whole.
    for size in ("64k", "256k", "500k"):
        disturb = partial(_run_on_full_disk, "mlruns/checkpoints", size, False)
        yield _make_disk_attempt(f"checkpoints in {size}", "mlruns/checkpoints", disturb)
    # The empty record has 950 kB, that of the study 1300, beside its checkpoints.
    for size in ("1000k", "1300k", "1600k", "1900k"):
        disturb = partial(_run_on_full_disk, "mlruns", size, False)
        yield _make_disk_attempt(f"record in {size}", "mlruns", disturb)
    # Features have 1100 kB; the temporary files of Ray some more.
    for size in ("300k", "900k"):
        disturb = partial(_run_on_full_disk, "cache", size, True)
        yield _make_disk_attempt(f"cache in {size}", "cache", disturb, real=True)
    for size in ("200k", "3m"):
        disturb = partial(_run_on_full_disk, "tmp", size, True)
        yield _make_disk_attempt(f"temporary files in {size}", "tmp", disturb, real=True)


def _make_disk_attempt(
    name: str, folder: str, disturb: Callable[[Place], list[Ending]], real: bool = False
) -> Attempt:
    """Make the attempt on a disk that is full at first and large enough afterwards."""
    return Attempt(
        name,
        disturb,
        damage=partial(_enlarge, folder),
        proceed=run_with_ray if real else forked.run,
        clean=partial(_unmount, folder),
    )


def _run_on_full_disk(name: str, size: str, real: bool, place: Place) -> list[Ending]:
    """Run the study with one of its folders on a disk of this size."""
    folder = place.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    kept = place.folder / "kept.db"
    if name == "mlruns":
        shutil.copyfile(place.database, kept)
    _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    if name == "mlruns":
        shutil.copyfile(kept, place.database)
    if name == "cache":
        # Features are what fills it; measuring the cost again would only take time.
        shutil.copytree(BASE / "cache" / "probes", folder / "probes")
        place.environment["AVSC_CACHE"] = str(folder)
    if name == "tmp":
        place.environment["TMPDIR"] = str(folder)
    return [place.run() if real else forked.run(place)]


def _enlarge(name: str, place: Place) -> None:
    """Make room on the disk."""
    _mount("-o", "remount,size=500m", str(place.folder / name))


def _unmount(name: str, place: Place) -> None:
    """Take the disk away, also while something still has a file on it open."""
    subprocess.run(["umount", "--lazy", str(place.folder / name)], check=False)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _kill_after_checkpoint(number: int, place: Place) -> list[Ending]:
    """Kill the study when so many checkpoints are written."""
    ending = forked.run(place, Strike(number, after=True, only=".pt"))
    return [ending] if ending.code == -signal.SIGKILL else []


def _damage_checkpoints(damage: Damage, place: Place) -> None:
    for path in place.list_checkpoints():
        damage(path)


def _kill_with_own_cache(number: int, place: Place) -> list[Ending]:
    """Give the place a cache of its own, and kill its study after so many checkpoints."""
    shutil.copytree(BASE / "cache", place.folder / "cache")
    place.environment["AVSC_CACHE"] = str(place.folder / "cache")
    return _kill_after_checkpoint(number, place)


def _damage_arrays(damage: Damage, place: Place) -> None:
    for path in (place.folder / "cache" / "features").glob("*/array.npy"):
        damage(path)


def _continue_or_mend(place: Place) -> Ending:
    """Give the command again, and once more after what it asks for when it refuses."""
    ending = forked.run(place)
    if ending.code in (2, 4) and "Traceback" not in ending.err:
        shutil.rmtree(place.folder / "cache" / "features")
        shutil.copytree(BASE / "cache" / "features", place.folder / "cache" / "features")
        return forked.run(place)
    return ending


def _cut(share: float, path: Path) -> None:
    """Keep only a share of a file."""
    os.truncate(path, int(share * path.stat().st_size))


def _flip(share: float, path: Path) -> None:
    """Flip a bit at a share of a file's length."""
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)
