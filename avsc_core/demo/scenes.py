"""This module writes the embedded scenes: a small synthetic data set in TAU's layout.

A scene is a distribution over 64 events (sounds.py) and 64 objects (pictures.py), called tags here.
Scenes come in pairs that share their sounds, and in other pairs that share their looks
(scenes.yaml). One modality alone tells the pair and little more than guesses within it; only both
together tell the ten scenes apart. Every location has a sound and a look of its own, and no test
location occurs in training.

In: a folder, the clips per scene, a seed. Out: audio/*.wav (8 kHz, stereo, 10 s), video/*.mp4
(96x96, 100 frames, silent), meta.csv, evaluation_setup/fold1_{train,test,evaluate}.csv, labels.npz
with the true events (N,64) and objects (N,64), and SYNTHETIC.txt, which marks the folder as
synthetic wherever it is moved. The same seed gives the same bytes, however many processes write
them.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile
from numpy.random import Generator, default_rng

from avsc_core.data.dataset import SYNTHETIC
from avsc_core.demo.pictures import FRAME_RATE, SIZE, draw_frames, read_objects
from avsc_core.demo.sounds import RATE, mix_events, read_events
from avsc_core.labels import LABEL_FILE, SCENES, write_labels
from avsc_core.processes import process_pool
from avsc_core.yaml_file import read_yaml

CITIES = ("barcelona", "helsinki", "lisbon", "lyon", "prague", "vienna")
CLIPS_PER_LOCATION = 4
TEST_SHARE = 0.3  # of a scene's locations

# The probability of the tag that leans to one scene of a pair: in that scene, and in the other one.
LEANING_ODDS = 0.45
OTHER_ODDS = 0.12
RARE_ODDS = 0.02  # the probability of any tag that a scene does not name

# Separate streams of random numbers, so that drawing from one leaves the others as they are.
PLACE_STREAM = 0
TAG_STREAM = 1
SOUND_STREAM = 2
PICTURE_STREAM = 3

SETUP = "evaluation_setup"  # TAU's folder of the splits
MEDIA_COLUMNS = ("filename_audio", "filename_video")
FOLD_COLUMNS = (*MEDIA_COLUMNS, "scene_label")
META_COLUMNS = (*FOLD_COLUMNS, "identifier")

NOTICE = """\
These are the embedded scenes of avsc: sounds and pictures made by a program, not recorded anywhere.
What is measured on them says nothing about real streets, and avsc says so as long as this file is here.
If you put your own clips in their place, remove this file.
"""  # noqa: E501 - the lines of a file that is written


def write_demo(
    root: Path,
    clips_per_scene: int = 40,
    seed: int = 0,
    workers: int = 0,  # 0: one per core
    progress: Callable[[int, int], None] | None = None,  # called with (done, total)
) -> None:
    """Write the embedded scenes into `root`. Raises ValueError for fewer than 3 clips per scene."""
    clips = plan_clips(clips_per_scene, seed)

    # The folders, and the notice that marks them.
    for name in ("audio", "video", SETUP):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / SYNTHETIC).write_text(NOTICE, encoding="utf-8", newline="\n")

    # The media, rendered by several processes.
    with process_pool(workers) as pool:
        written = pool.map(partial(_write_clip, root, seed), clips, chunksize=2)
        for done, _ in enumerate(written, start=1):
            if progress is not None:
                progress(done, len(clips))

    _write_tables(root, clips)

    # The true labels.
    event_names = tuple(read_events())
    object_names = tuple(read_objects())
    write_labels(
        root / LABEL_FILE,
        clips=[clip.name for clip in clips],
        events=_mark_tags([clip.events for clip in clips], event_names),
        objects=_mark_tags([clip.objects for clip in clips], object_names),
        event_names=event_names,
        object_names=object_names,
    )


def plan_clips(clips_per_scene: int, seed: int) -> "list[DemoClip]":
    """Decide what every clip holds and where it was taken.

    About 30 % of a scene's locations are for the test. Raises ValueError for fewer than 3 clips per
    scene.
    """
    if clips_per_scene < 3:
        raise ValueError(
            f"{clips_per_scene} clips per scene; at least 3: one each to train, validate and test"
        )

    # The locations of each scene, and the probabilities of its tags.
    locations = max(3, clips_per_scene // CLIPS_PER_LOCATION)  # of one scene
    first_test = locations - max(1, round(TEST_SHARE * locations))
    event_names = tuple(read_events())
    object_names = tuple(read_objects())
    event_odds = compute_tag_odds(read_pairs("sounds"), event_names)  # (10,64)
    object_odds = compute_tag_odds(read_pairs("looks"), object_names)  # (10,64)

    clips = []
    for number in range(len(SCENES) * clips_per_scene):
        # Clips are numbered scene by scene, and go round the locations of their scene.
        scene, number_in_scene = divmod(number, clips_per_scene)
        segment, location_in_scene = divmod(number_in_scene, locations)
        location = scene * locations + location_in_scene
        city = CITIES[location % len(CITIES)]

        rng = default_rng([seed, TAG_STREAM, number])
        clip = DemoClip(
            name=f"{SCENES[scene]}-{city}-{location}-{segment}",
            number=number,
            location=location,
            test=location_in_scene >= first_test,
            events=_draw_tags(event_names, event_odds[scene], rng),
            objects=_draw_tags(object_names, object_odds[scene], rng),
        )
        clips.append(clip)
    return clips


@cache
def read_pairs(likeness: str) -> "tuple[ScenePair, ...]":
    """Read the pairs of scenes that share their `sounds` or their `looks`."""
    pairs = read_yaml(Path(__file__).with_name("scenes.yaml")).data[likeness]
    return tuple(ScenePair(**pair) for pair in pairs)


def compute_tag_odds(pairs: "Sequence[ScenePair]", names: Sequence[str]) -> np.ndarray:
    """Compute the probability of every tag in every scene, (10,64), rows in the order of SCENES."""
    odds = np.full((len(SCENES), len(names)), RARE_ODDS)
    for pair in pairs:
        shared = pair.often | pair.sometimes
        first, second = pair.leaning
        leanings = (
            {first: LEANING_ODDS, second: OTHER_ODDS},
            {first: OTHER_ODDS, second: LEANING_ODDS},
        )
        for scene, leaning in zip(pair.scenes, leanings, strict=True):
            row = SCENES.index(scene)
            for name, chance in (shared | leaning).items():
                odds[row, names.index(name)] = chance
    return odds


def write_video(path: Path, frames: Iterable[np.ndarray]) -> None:
    """Encode RGB frames (96,96,3) as H.264, so that the same frames always give the same bytes."""
    # Even on one thread x264's look-ahead decides differently from run to run when it uses its
    # assembler routines (asm) for rate control and B frames (bf). So the quantiser is constant
    # (qp), and all three are off.
    options = {"preset": "veryfast", "qp": "22", "bf": "0", "threads": "1", "x264-params": "asm=0"}
    with av.open(path, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=FRAME_RATE, options=options)
        stream.width = SIZE
        stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())  # the frames that the encoder still holds


def _draw_tags(names: Sequence[str], odds: np.ndarray, rng: Generator) -> tuple[str, ...]:
    """Draw each of the tags with its probability, odds (64,)."""
    drawn = rng.random(len(names)) < odds  # (64,)
    return tuple(np.array(names)[drawn].tolist())


def _mark_tags(tags_of_clips: Sequence[tuple[str, ...]], names: Sequence[str]) -> np.ndarray:
    """Mark the tags of each clip among all names: (N,64) uint8 of 0 and 1."""
    marks = np.zeros((len(tags_of_clips), len(names)), dtype=np.uint8)
    for row, tags in enumerate(tags_of_clips):
        for tag in tags:
            marks[row, names.index(tag)] = 1
    return marks


def _write_clip(root: Path, seed: int, clip: "DemoClip") -> None:
    """Render one clip.

    Its random numbers depend on the seed, its number and its location, never on the process.
    """
    # Sound and pictures each get a fresh generator of the location: neither depends on the other.
    place = default_rng([seed, PLACE_STREAM, clip.location])
    rng = default_rng([seed, SOUND_STREAM, clip.number])
    sound = mix_events(clip.events, place, rng)  # (2,T)
    soundfile.write(root / "audio" / f"{clip.name}.wav", sound.T, RATE, subtype="PCM_16")

    place = default_rng([seed, PLACE_STREAM, clip.location])
    rng = default_rng([seed, PICTURE_STREAM, clip.number])
    frames = draw_frames(clip.objects, place, rng)
    write_video(root / "video" / f"{clip.name}.mp4", frames)


def _write_tables(root: Path, clips: "Sequence[DemoClip]") -> None:
    """Write TAU's tables: all clips, then those of each split; of the test also without scenes."""
    train = [clip for clip in clips if not clip.test]
    test = [clip for clip in clips if clip.test]
    setup = root / SETUP
    _write_table(root / "meta.csv", clips, META_COLUMNS)
    _write_table(setup / "fold1_train.csv", train, FOLD_COLUMNS)
    _write_table(setup / "fold1_evaluate.csv", test, FOLD_COLUMNS)
    _write_table(setup / "fold1_test.csv", test, MEDIA_COLUMNS)


def _write_table(path: Path, clips: "Sequence[DemoClip]", columns: Sequence[str]) -> None:
    """Write some columns of the clips as one of TAU's TAB-separated tables."""
    rows = ["\t".join(columns)]
    for clip in clips:
        scene, city, location, _ = clip.name.split("-")
        cells = {
            "filename_audio": f"audio/{clip.name}.wav",
            "filename_video": f"video/{clip.name}.mp4",
            "scene_label": scene,
            "identifier": f"{city}-{location}",
        }
        rows.append("\t".join(cells[column] for column in columns))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8", newline="\n")


class DemoClip(NamedTuple):
    """One clip before it is rendered."""

    name: str  # scene-city-location-segment
    number: int  # over the data set
    location: int  # over the data set
    test: bool
    events: tuple[str, ...]
    objects: tuple[str, ...]


class ScenePair(NamedTuple):
    """Two scenes that share the tags of one modality, except for one tag that leans to each."""

    scenes: list[str]
    often: dict[str, float]  # tag -> its probability in a clip of either scene
    sometimes: dict[str, float]  # the same, of tags that other scenes have too
    leaning: list[str]  # the tag that leans to the first scene, and to the second
