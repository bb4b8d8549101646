"""`avsc-core check`: every fault of a data set with its row, and what the data set is made of.

Tables -> clips (tau.py); then every wav's and mp4's header, by several processes, or with `deep` all that is in them.
Clips whose files are bad can be written to skip.tsv beside the tables; the reader leaves them out from then on.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from avsc_core.config import Media, Pictures
from avsc_core.data.layout import write_skipped
from avsc_core.data.tables import Clip
from avsc_core.data.tau import PUBLISHED, read_clips
from avsc_core.errors import Fault, collect_faults
from avsc_core.labels import SCENES
from avsc_core.processes import Progress, parallel_map


class Probe(NamedTuple):
    """What one clip's files are."""

    faults: list[Fault]
    audio: tuple[float, int, int, str] | None  # seconds, Hz, channels, encoding
    video: (
        tuple[float, float, int, int, str] | None
    )  # seconds, frames a second, width, height, codec


class Inspection(NamedTuple):
    """A data set looked at."""

    clips: list[Clip]
    scenes: tuple[str, ...]
    faults: list[Fault]  # of the tables
    bad: dict[str, list[Fault]]  # clip name -> faults of its files
    probes: list[Probe]


def inspect(root: Path, media: Media, deep: bool, workers: int, progress: Progress) -> Inspection:
    """Look at every clip of the data set at `root`."""
    clips, faults, scenes = read_clips(root)
    probes = []
    for probe in parallel_map(partial(probe_clip, media, deep), clips, workers):
        probes.append(probe)
        progress("decoding clips" if deep else "reading headers", len(probes), len(clips))
    bad = {
        clip.name: probe.faults for clip, probe in zip(clips, probes, strict=True) if probe.faults
    }
    return Inspection(clips, scenes, faults, bad, probes)


def probe_clip(media: Media, deep: bool, clip: Clip) -> Probe:
    """The headers of one clip's files, or all that is in them; faults name the row too."""
    from avsc_core.data.clip_features import compute_frames
    from avsc_core.data.media import Lengths, check_length, probe_audio, probe_video, read_audio

    faults: list[Fault] = []
    audio = video = None
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
            compute_frames(
                clip, Pictures(frames=1, offset_s=video.seconds), media
            )  # to the last frame
    named = [
        Fault(f"{clip.row} {Path(each.where).name}", each.what, each.allowed, each.todo)
        for each in faults
    ]
    return Probe(named, audio and tuple(audio), video and tuple(video))  # type: ignore[arg-type]


def skip_bad(root: Path, inspection: Inspection) -> Path:
    """Have the reader leave out the clips whose files are bad; returns the file that says so."""
    return write_skipped(root, {name: str(faults[0]) for name, faults in inspection.bad.items()})


def summarise(inspection: Inspection) -> list[tuple[str, str]]:
    """What the data set is made of, a line each."""
    clips, total = inspection.clips, sum(PUBLISHED.values())
    splits = Counter(clip.split for clip in clips)
    places = {clip.location for clip in clips}
    share = " (complete)" if len(clips) == total else f" ({len(clips)} of the {total} of TAU 2021)"
    lines = [
        (
            "clips",
            ", ".join(f"{count} {split}" for split, count in splits.items())
            + (share if inspection.scenes == SCENES else ""),
        ),
        ("locations", f"{len(places)} in {len({place.split('-')[0] for place in places})} cities"),
    ]
    for index, scene in enumerate(inspection.scenes):
        own = Counter(clip.split for clip in clips if clip.scene == index)
        lines.append((scene, ", ".join(f"{own[split]} {split}" for split in splits)))
    audio = [probe.audio for probe in inspection.probes if probe.audio]
    video = [probe.video for probe in inspection.probes if probe.video]
    lines += [
        ("audio", _span([each[0] for each in audio])),
        ("sample rates", _counts(f"{each[1]} Hz, {each[2]} channels, {each[3]}" for each in audio)),
        ("video", _span([each[0] for each in video])),
        ("resolutions", _counts(f"{each[2]} x {each[3]}" for each in video)),
        ("codecs", _counts(f"{each[4]} at {each[1]:g} frames a second" for each in video)),
    ]
    return lines


def _span(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.3f} to {max(seconds):.3f} s" if seconds else "none"


def _counts(values: Iterable[str]) -> str:
    return (
        "; ".join(f"{value}: {count}" for value, count in Counter(values).most_common()) or "none"
    )


def list_faults(inspection: Inspection) -> list[Fault]:
    """Those of the tables first, then those of the files."""
    return inspection.faults + [fault for own in inspection.bad.values() for fault in own]
