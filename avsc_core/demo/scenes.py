"""The embedded scenes: a small synthetic data set in TAU's layout, for the first minute and for every test.

A scene is a distribution over 64 events (demo_sounds) and 64 objects (demo_pictures). Scenes come in pairs that share
their sounds and in other pairs that share their looks, so that only both modalities together tell the ten scenes apart:
one modality alone names the pair and little more than guesses within it. Every location has a sound and a look of its
own, and the locations of the test are never heard or seen in training.

In: a folder, clips per scene, a seed. Out: audio/*.wav (8 kHz, stereo, 10 s), video/*.mp4 (96x96, 100 frames, silent),
meta.csv, evaluation_setup/fold1_{train,test,evaluate}.csv, labels.npz with the true events (N,64) and objects (N,64),
and SYNTHETIC.txt, by which figures of a folder like this are labelled wherever it is moved.
The same seed gives the same bytes, however many workers write them.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile

from avsc_core.data.dataset import SYNTHETIC
from avsc_core.demo.pictures import FRAME_RATE, OBJECTS, SIZE, draw_frames
from avsc_core.demo.sounds import EVENTS, RATE, mix_events
from avsc_core.labels import LABEL_FILE, SCENES, write_labels
from avsc_core.processes import process_pool

CITIES = ("barcelona", "helsinki", "lisbon", "lyon", "prague", "vienna")
CLIPS_PER_LOCATION = 4
OWN, OTHER = (
    0.45,
    0.12,
)  # odds of the tag that leans to one scene of a pair, in that scene and in the other
RARE = 0.02  # odds of any tag that a scene does not name
ABOUT = """\
These are the embedded scenes of avsc: sounds and pictures made by a program, not recorded anywhere.
What is measured on them says nothing about real streets, and avsc says so as long as this file is here.
If you put your own clips in their place, remove this file.
"""
PLACE, TAGS, SOUND, PICTURE = range(
    4
)  # separate random streams, so that drawing one leaves the others alone


def write_demo(
    root: Path,
    clips_per_scene: int = 40,
    seed: int = 0,
    workers: int = 0,  # 0: one per core
    progress: Callable[[int, int], None]
    | None = None,  # called with (done, total) after every clip
) -> None:
    """Write the embedded scenes into `root`. Raises ValueError for fewer than 3 clips per scene."""
    clips = plan_clips(clips_per_scene, seed)
    for folder in ("audio", "video", "evaluation_setup"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / SYNTHETIC).write_text(ABOUT, encoding="utf-8", newline="\n")
    with process_pool(workers) as pool:
        for done, _ in enumerate(
            pool.map(partial(_write_clip, root, seed), clips, chunksize=2), start=1
        ):
            if progress is not None:
                progress(done, len(clips))
    train = [clip for clip in clips if not clip.test]
    test = [clip for clip in clips if clip.test]
    _write_table(
        root / "meta.csv", clips, ["filename_audio", "filename_video", "scene_label", "identifier"]
    )
    setup = root / "evaluation_setup"
    _write_table(
        setup / "fold1_train.csv", train, ["filename_audio", "filename_video", "scene_label"]
    )
    _write_table(
        setup / "fold1_evaluate.csv", test, ["filename_audio", "filename_video", "scene_label"]
    )
    _write_table(setup / "fold1_test.csv", test, ["filename_audio", "filename_video"])
    events = np.array(
        [[name in clip.events for name in EVENTS] for clip in clips], dtype=np.uint8
    )  # (N,64)
    objects = np.array(
        [[name in clip.objects for name in OBJECTS] for clip in clips], dtype=np.uint8
    )  # (N,64)
    write_labels(
        root / LABEL_FILE,
        [clip.name for clip in clips],
        events,
        objects,
        tuple(EVENTS),
        tuple(OBJECTS),
    )


def plan_clips(clips_per_scene: int, seed: int) -> "list[Clip]":
    """Decide what every clip holds and where it was taken; about 30 % of a scene's locations are for the test."""
    if clips_per_scene < 3:
        raise ValueError(
            f"{clips_per_scene} clips per scene; at least 3: one each to train, validate and test"
        )
    locations = max(3, clips_per_scene // CLIPS_PER_LOCATION)  # of one scene
    first_test = locations - max(1, round(0.3 * locations))
    event_odds, object_odds = (
        tag_odds(SOUNDS, tuple(EVENTS)),
        tag_odds(LOOKS, tuple(OBJECTS)),
    )  # (10,64) each
    clips = []
    for number in range(len(SCENES) * clips_per_scene):
        scene, take = divmod(number, clips_per_scene)
        segment, spot = divmod(take, locations)
        location = scene * locations + spot
        name = f"{SCENES[scene]}-{CITIES[location % len(CITIES)]}-{location}-{segment}"
        rng = np.random.default_rng([seed, TAGS, number])
        events = tuple(
            np.array(tuple(EVENTS))[rng.random(len(EVENTS)) < event_odds[scene]].tolist()
        )
        objects = tuple(
            np.array(tuple(OBJECTS))[rng.random(len(OBJECTS)) < object_odds[scene]].tolist()
        )
        clips.append(Clip(name, number, location, spot >= first_test, events, objects))
    return clips


def tag_odds(pairs: "Sequence[Pair]", names: Sequence[str]) -> np.ndarray:
    """The probability of every tag in every scene, (10,64), rows in the order of SCENES."""
    odds = np.full((len(SCENES), len(names)), RARE)
    for pair in pairs:
        for scene, own, other in zip(pair.scenes, pair.leaning, pair.leaning[::-1], strict=True):
            shared = pair.often | pair.sometimes | {own: OWN, other: OTHER}
            for name, chance in shared.items():
                odds[SCENES.index(scene), names.index(name)] = chance
    return odds


def _write_clip(root: Path, seed: int, clip: "Clip") -> None:
    """Render one clip; its random numbers depend on the seed, its number and its location, never on the worker."""

    def stream(kind: int, number: int) -> np.random.Generator:
        return np.random.default_rng([seed, kind, number])

    sound = mix_events(
        clip.events, stream(PLACE, clip.location), stream(SOUND, clip.number)
    )  # (2,T)
    soundfile.write(root / "audio" / f"{clip.name}.wav", sound.T, RATE, subtype="PCM_16")
    frames = draw_frames(
        clip.objects, stream(PLACE, clip.location), stream(PICTURE, clip.number)
    )  # 100 of (96,96,3)
    write_video(root / "video" / f"{clip.name}.mp4", frames)


def write_video(path: Path, frames: Iterable[np.ndarray]) -> None:
    """Encode RGB frames (96,96,3) as H.264 so that the same frames always give the same bytes."""
    # Even on one thread x264's look-ahead decides differently from run to run when it uses assembler routines (asm) for
    # rate control and B frames (bf): so a constant quantiser (qp), and none of the three.
    options = {"preset": "veryfast", "qp": "22", "bf": "0", "threads": "1", "x264-params": "asm=0"}
    with av.open(path, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=FRAME_RATE, options=options)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def _write_table(path: Path, clips: "Sequence[Clip]", columns: Sequence[str]) -> None:
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


class Clip(NamedTuple):
    """One clip before it is rendered."""

    name: str  # scene-city-location-segment
    number: int  # over the data set
    location: int  # over the data set
    test: bool
    events: tuple[str, ...]
    objects: tuple[str, ...]


class Pair(NamedTuple):
    """Two scenes that share the tags of one modality, but for one tag each that leans to it."""

    scenes: tuple[str, str]
    often: dict[str, float]  # tag -> its probability in a clip of either scene
    sometimes: dict[str, float]
    leaning: tuple[str, str]  # the tag that leans to the first scene, and to the second


SOUNDS = (
    Pair(
        ("bus", "street_traffic"),
        {
            "diesel engine": 0.95,
            "tyre noise": 0.9,
            "passing car": 0.85,
            "gear whine": 0.8,
            "air brake": 0.7,
        },
        {
            "motorcycle": 0.15,
            "siren": 0.12,
            "reversing beeper": 0.12,
            "lorry": 0.15,
            "footsteps": 0.1,
        },
        ("door beep", "car horn"),
    ),
    Pair(
        ("metro", "tram"),
        {
            "rail rumble": 0.95,
            "rail joints": 0.9,
            "wheel squeal": 0.75,
            "traction motor": 0.85,
            "carriage rattle": 0.75,
        },
        {"loudspeaker voice": 0.15, "cough": 0.2, "phone ringing": 0.15, "rustling paper": 0.15},
        ("door buzzer", "tram bell"),
    ),
    Pair(
        ("airport", "metro_station"),
        {
            "ventilation": 0.9,
            "announcement chime": 0.85,
            "loudspeaker voice": 0.85,
            "luggage wheels": 0.85,
            "escalator hum": 0.8,
        },
        {
            "footsteps": 0.25,
            "baby crying": 0.12,
            "phone ringing": 0.12,
            "cough": 0.12,
            "crowd babble": 0.12,
        },
        ("jet rumble", "turnstile"),
    ),
    Pair(
        ("shopping_mall", "street_pedestrian"),
        {"crowd babble": 0.95, "footsteps": 0.9, "pop music": 0.8, "dishes": 0.8, "laughter": 0.75},
        {"keys jingling": 0.15, "applause": 0.12, "baby crying": 0.15, "bicycle bell": 0.12},
        ("till beep", "street guitar"),
    ),
    Pair(
        ("park", "public_square"),
        {
            "songbirds": 0.9,
            "rustling leaves": 0.85,
            "fountain": 0.85,
            "pigeon cooing": 0.8,
            "children playing": 0.8,
        },
        {"dog bark": 0.2, "wind gusts": 0.2, "bicycle bell": 0.15, "crow": 0.15, "footsteps": 0.15},
        ("duck quack", "church bell"),
    ),
)

LOOKS = (
    Pair(
        ("bus", "tram"),
        {
            "row of seats": 0.95,
            "hanging straps": 0.85,
            "wide window": 0.9,
            "grab pole": 0.85,
            "ticket machine": 0.7,
        },
        {"passer-by": 0.25, "child": 0.12, "poster": 0.15, "pushchair": 0.12},
        ("stop button", "window wiper"),
    ),
    Pair(
        ("metro", "metro_station"),
        {
            "tunnel mouth": 0.9,
            "railway track": 0.9,
            "platform edge": 0.85,
            "tiled wall": 0.9,
            "line map": 0.75,
        },
        {"group of people": 0.2, "passer-by": 0.2, "poster": 0.15, "litter bin": 0.15},
        ("door button", "platform clock"),
    ),
    Pair(
        ("airport", "shopping_mall"),
        {
            "escalator": 0.9,
            "glass roof": 0.9,
            "shop front": 0.8,
            "ceiling lamps": 0.8,
            "polished floor": 0.9,
        },
        {"group of people": 0.25, "potted plant": 0.2, "vending machine": 0.15, "pushchair": 0.12},
        ("suitcase", "shopping bag"),
    ),
    Pair(
        ("public_square", "street_pedestrian"),
        {"facade": 0.9, "striped awning": 0.85, "cobbles": 0.9, "statue": 0.7, "clock tower": 0.8},
        {"group of people": 0.25, "bicycle": 0.15, "market stall": 0.12, "parasol": 0.2},
        ("pigeons", "shop sign"),
    ),
    Pair(
        ("park", "street_traffic"),
        {"tree": 0.95, "lawn": 0.9, "hedge": 0.85, "street lamp": 0.8, "bench": 0.7},
        {"bicycle": 0.2, "dog": 0.15, "passer-by": 0.2, "litter bin": 0.15, "car": 0.12},
        ("pond", "traffic light"),
    ),
)
