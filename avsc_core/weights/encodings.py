"""Encodings that were computed elsewhere, in an encoder's place: OpenL3, VGGish, PANNs, BEATs ...

An .npz file with

    clips        (N,)                 names of clips, as in the tables of the data set
    encodings    (N,D) or (N,T,D)     float, one encoding a clip, or T of them over its time

It may have more clips than a data set, in any order. Nothing in it is unpickled, so a file from
anywhere can run no code.
"""

import zipfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy import ndarray

from avsc_core.errors import Fault, UserError, make_error
from avsc_core.files import explain_unreadable

KEYS = ("clips", "encodings")
SHOWN = 3  # clips that a fault names; the others are counted


def read_encoding_shape(file: str, where: str) -> tuple[int, ...]:
    """Return the shape of one clip's encoding, (D,) or (T,D).

    `where` is the setting that names the file. Raises UserError when it is not such a file.
    """
    path = Path(file)
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _read_shape(file, where, changed)


@lru_cache(maxsize=64)  # building a model asks several times, and the file may have gigabytes
def _read_shape(file: str, where: str, changed: int) -> tuple[int, ...]:
    """Return the shape of one clip's encoding in a file that was last `changed` at that time."""
    _, encodings = _read_file(file, where)
    return tuple(encodings.shape[1:])


def load_encodings(file: str, clips: Sequence[str], where: str) -> ndarray:
    """Load the encodings (N,D) or (N,T,D) float32 of N clips by their names.

    `where` is the setting that names the file. Raises UserError when it is not such a file, and
    with the names of clips that it lacks or whose encodings have values that are not finite.
    """
    names, encodings = _read_file(file, where)
    row_of = {name: row for row, name in enumerate(names.tolist())}
    missing = [clip for clip in clips if clip not in row_of]
    if missing:
        what = f"the file lacks {_name_some(missing)} of {len(clips)} clips"
        raise make_error(f"{where} {file}", what, "every clip of the data set", "encode them too")

    found: ndarray = encodings[[row_of[clip] for clip in clips]].astype(np.float32)
    finite = np.isfinite(found).reshape(len(clips), -1).all(1)  # (N,)
    broken = [clip for clip, whole in zip(clips, finite, strict=True) if not whole]
    if broken:
        what = f"values of {_name_some(broken)} are not finite numbers"
        raise make_error(f"{where} {file}", what, todo="encode them again")
    return found


def _read_file(file: str, where: str) -> tuple[ndarray, ndarray]:
    """Read clips (N,) and encodings (N,...), and check their shapes and types."""
    path = Path(file)
    place = f"{where} {file}"
    if not path.is_file():
        raise make_error(where, f"{file} does not exist", "an .npz of clips and encodings")
    try:
        with np.load(path, allow_pickle=False) as content:
            clips, encodings = (np.asarray(content[key]) for key in KEYS)
    except (ValueError, KeyError, OSError, TypeError, zipfile.BadZipFile) as error:
        what = f"the file is not an .npz of {' and '.join(KEYS)} ({explain_unreadable(error)})"
        raise make_error(place, what, "numpy.savez(FILE, clips=..., encodings=...)") from None

    faults = []
    if clips.ndim != 1 or clips.dtype.kind != "U":
        what = f"clips is {clips.dtype} of shape {clips.shape}"
        faults.append(Fault(place, what, "(N,) names as text"))
    if encodings.ndim not in (2, 3) or encodings.dtype.kind != "f" or 0 in encodings.shape:
        what = f"encodings is {encodings.dtype} of shape {encodings.shape}"
        faults.append(Fault(place, what, "(N,D) or (N,T,D) floating-point numbers"))
    if not faults and len(clips) != len(encodings):
        what = f"{len(clips)} clips and {len(encodings)} encodings"
        faults.append(Fault(place, what, "one encoding a clip"))
    if not faults and len(set(clips.tolist())) < len(clips):
        faults.append(Fault(place, "a clip is named twice", "one encoding a clip"))
    if faults:
        raise UserError(faults)
    return clips, encodings


def _name_some(clips: Sequence[str]) -> str:
    """Name the first few clips and count the others."""
    names = ", ".join(clips[:SHOWN])
    more = len(clips) - SHOWN
    return f"{names} and {more} more" if more > 0 else names
