"""This module inspects a data set for `avsc-core check`.

It finds every fault with its row, and what the data set is made of.

In: a folder. Out: an `Inspection` with the clips of the tables (tau.py), and for each clip the
headers of its wav and mp4, read by several processes; with `deep` both files are decoded to their
ends. Clips with bad files can be written to skip.tsv, and every command leaves them out from then
on.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from avsc_core.config import Media, Pictures
from avsc_core.data.layout import write_skipped
from avsc_core.data.tables import AudioInfo, Clip, VideoInfo
from avsc_core.data.tau import PUBLISHED_CLIPS, read_clips
from avsc_core.errors import Fault, collect_faults
from avsc_core.labels import SCENES
from avsc_core.processes import Progress, parallel_map


class Probe(NamedTuple):
    """What was found in the files of one clip; a header is None when the file is bad."""

    faults: list[Fault]
    audio: AudioInfo | None
    video: VideoInfo | None


class Inspection(NamedTuple):
    """What was found in a data set."""

    clips: list[Clip]  # N
    scenes: tuple[str, ...]  # S
    faults: list[Fault]  # of the tables
    bad: dict[str, list[Fault]]  # clip name -> faults of its files
    probes: list[Probe]  # N


def inspect(root: Path, media: Media, deep: bool, workers: int, progress: Progress) -> Inspection:
    """Inspect the tables of the data set at `root` and the files of every clip."""
    clips, faults, scenes = read_clips(root)
    # Probes arrive in the order of the clips.
    stage = "decoding clips" if deep else "reading headers"
    bad = {}
    probes: list[Probe] = []
    for probe in parallel_map(partial(probe_clip, media, deep), clips, workers):
        if probe.faults:
            bad[clips[len(probes)].name] = probe.faults
        probes.append(probe)
        progress(stage, len(probes), len(clips))
    return Inspection(clips, scenes, faults, bad, probes)


def probe_clip(media: Media, deep: bool, clip: Clip) -> Probe:
    """Read the headers of a clip's files, or decode both to their ends when `deep`.

    The faults name the clip's row too.
    """
    # Loads torch, which a process that only reads tables does without.
    from avsc_core.data.clip_features import compute_frames
    from avsc_core.data.media import Lengths, check_length, probe_audio, probe_video, read_audio

    # A fault of one file does not keep the other from being read.
    faults: list[Fault] = []
    audio = None
    video = None
    lengths = Lengths(media.short, media.long)
    with collect_faults(faults):
        audio = probe_audio(clip.audio)
        check_length(clip.audio, audio.seconds, lengths)
        if deep:
            read_audio(clip.audio, audio.rate, lengths)
    with collect_faults(faults):
        video = probe_video(clip.video)
        check_length(clip.video, video.seconds, lengths)
        if deep:
            # The frame shown at the end is asked for, so every frame before it is decoded.
            last_frame = Pictures(frames=1, offset_s=video.seconds)
            compute_frames(clip, last_frame, media)

    # The faults name their file; put the row of the table before it.
    faults_with_row = []
    for fault in faults:
        where = f"{clip.row} {Path(fault.where).name}"
        faults_with_row.append(replace(fault, where=where))
    return Probe(faults_with_row, audio, video)


def leave_out_bad(root: Path, inspection: Inspection) -> Path:
    """Add the clips with bad files to skip.tsv, each with its first fault; returns its path."""
    fault_of = {name: str(faults[0]) for name, faults in inspection.bad.items()}
    return write_skipped(root, fault_of)


def list_faults(inspection: Inspection) -> list[Fault]:
    """Return all faults: those of the tables first, then those of the files."""
    return [*inspection.faults, *chain.from_iterable(inspection.bad.values())]


def summarise(inspection: Inspection) -> list[tuple[str, str]]:
    """Return what the data set is made of, as rows of a table with two columns."""
    # The names of locations begin with their city.
    locations = {clip.location for clip in inspection.clips}
    cities = {location.split("-")[0] for location in locations}

    # Only headers that could be read.
    wavs = [probe.audio for probe in inspection.probes if probe.audio]
    mp4s = [probe.video for probe in inspection.probes if probe.video]
    formats = [f"{wav.rate} Hz, {wav.channels} channels, {wav.encoding}" for wav in wavs]
    sizes = [f"{mp4.width} x {mp4.height}" for mp4 in mp4s]
    codecs = [f"{mp4.codec} at {mp4.rate:g} frames a second" for mp4 in mp4s]
    return [
        ("clips", _count_clips(inspection)),
        ("locations", f"{len(locations)} in {len(cities)} cities"),
        *_count_scenes(inspection),
        ("audio", _describe_range(wavs)),
        ("sample rates", _count_values(formats)),
        ("video", _describe_range(mp4s)),
        ("resolutions", _count_values(sizes)),
        ("codecs", _count_values(codecs)),
    ]


def _count_clips(inspection: Inspection) -> str:
    """Count the clips of each split, and compare TAU's with the number published."""
    splits = Counter(clip.split for clip in inspection.clips)
    text = _join_counts(splits, splits)
    if inspection.scenes != SCENES:
        return text
    count = splits.total()
    if count == PUBLISHED_CLIPS:
        return f"{text} (complete)"
    return f"{text} ({count} of the {PUBLISHED_CLIPS} of TAU 2021)"


def _count_scenes(inspection: Inspection) -> list[tuple[str, str]]:
    """Count the clips of each scene in each split."""
    splits = dict.fromkeys(clip.split for clip in inspection.clips)
    rows = []
    for index, scene in enumerate(inspection.scenes):
        counts = Counter(clip.split for clip in inspection.clips if clip.scene == index)
        rows.append((scene, _join_counts(counts, splits)))
    return rows


def _join_counts(counts: Counter[str], splits: Iterable[str]) -> str:
    """Write the number of clips of each split: "20 train, 10 test"."""
    return ", ".join(f"{counts[split]} {split}" for split in splits)


def _describe_range(infos: Sequence[AudioInfo | VideoInfo]) -> str:
    """Write the shortest and the longest of the durations."""
    seconds = [info.seconds for info in infos]
    return f"{min(seconds):.3f} to {max(seconds):.3f} s" if seconds else "none"


def _count_values(values: Iterable[str]) -> str:
    """Write how often each value occurs, the most frequent first."""
    counts = Counter(values).most_common()
    return "; ".join(f"{value}: {count}" for value, count in counts) or "none"
