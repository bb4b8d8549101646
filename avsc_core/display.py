"""What `avsc-core` prints: its tables and notes. The command line itself is in `cli.py`.

Results go to standard output (`out`), notes to standard error (`err`). Lines with paths are printed
with `soft_wrap`, so that a terminal cannot break a path in two.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avsc_core.data.dataset import DataSet, describe_split
from avsc_core.data.features import Features
from avsc_core.data.inspect import Inspection, summarise
from avsc_core.errors import Fault
from avsc_core.evaluation.breakdown import score_by_city, score_by_scene
from avsc_core.evaluation.intervals import estimate_scores
from avsc_core.files import cache_root
from avsc_core.labels import LABEL_FILE, read_labels
from avsc_core.record.environment import describe_environment, find_changes
from avsc_core.resolve import find_given_encodings, find_random_branches
from avsc_core.terminal import err, make_table, out
from avsc_core.weights.sources import hash_source

if TYPE_CHECKING:
    from avsc_core.config import Config
    from avsc_core.evaluation.class_map import ClassMap
    from avsc_core.evaluation.evaluate import Evaluation, Trained
    from avsc_core.evaluation.retrain import Result
    from avsc_core.record.trials import TrialRecord
    from avsc_core.record.winner import Winner
    from avsc_core.teachers.pseudo import Positives


def print_inspection(folder: Path, inspection: Inspection) -> None:
    """Print what a data set consists of."""
    out.print(make_table(f"{folder}", ["what", "found"], summarise(inspection)))


def print_labels(folder: Path) -> None:
    """Print how many classes the label file of a data set has, or how to make one.

    Raises UserError when the file is damaged.
    """
    path = folder / LABEL_FILE
    if not path.is_file():
        note = f"note: no {LABEL_FILE} yet; `avsc-core pseudo {folder}` makes one"
        err.print(note, soft_wrap=True)
        return
    labels = read_labels(path)
    events = len(labels.event_names)
    objects = len(labels.object_names)
    out.print(f"{events} events, {objects} objects labelled")


def print_faults(faults: Sequence[Fault]) -> None:
    """Print the faults of a data set."""
    header = ["where", "what", "allowed", "what to do"]
    rows = [[fault.where, fault.what, fault.allowed, fault.todo] for fault in faults]
    out.print(make_table(f"{len(faults)} faults", header, rows))


def print_features(features: Features, odd_lengths: Mapping[str, int]) -> None:
    """Print the shapes of features, and how many recordings were padded or cropped."""
    clips = len(features.data.clips)
    arrays = {"log-mel": features.log_mel, "frames": features.frames}
    shapes = [f"{name} {array.shape}" for name, array in arrays.items() if array is not None]
    out.print(f"features of {clips} clips in {cache_root()}: {', '.join(shapes)}", soft_wrap=True)
    if any(odd_lengths.values()):
        counts = [f"{count} recordings {note}" for note, count in odd_lengths.items()]
        out.print(f"{', '.join(counts)} to 10 s")


def print_positives(positives: Sequence["Positives"], warnings: Sequence[str]) -> None:
    """Print how many classes are positive in the clips of each split."""
    header = ["labels", "split", "clips", "median", "mean", "without any"]
    rows = []
    for row in positives:
        numbers = (f"{row.clips}", f"{row.median:.0f}", f"{row.mean:.1f}", f"{row.without:.0%}")
        rows.append([row.kind, row.split, *numbers])
    out.print(make_table("positives per clip", header, rows))
    for warning in warnings:
        err.print(f"note: {warning}", soft_wrap=True)


def note_random_weights(config: "Config", data: DataSet) -> None:
    """Say which backbones start from random weights; on the embedded scenes all do."""
    branches = find_random_branches(config)
    if branches and not data.embedded:
        names = " and ".join(branches)
        note = f"note: random weights for {names}; the paper's start from published ones"
        err.print(note, soft_wrap=True)


def note_changes(winner: "Winner", config: "Config") -> None:
    """Say what differs from where the winning trial was trained; nothing when nothing does."""
    from avsc_core.evaluation.retrain import use_threads

    with use_threads(winner):
        now = describe_environment(config)
    for line in find_changes(winner.trial.tags, now):
        err.print(f"changed since the trial: {line}", soft_wrap=True)


def note_provenance(trained: "Trained", data: DataSet, split: str) -> None:
    """Say where a model comes from, and what its figures on this split cannot say."""
    provenance = trained.provenance
    if provenance.study:
        row = f" ({provenance.row} of the paper)" if provenance.row else ""
        line = f"model: winner of study {provenance.study}, trial {provenance.trial_key[:6]}{row}"
        if provenance.changed:
            line += f", with {', '.join(provenance.changed)}"
        err.print(f"{line}; check: {provenance.check or 'none'}", soft_wrap=True)

    # What it was trained on, and how that is related to these clips.
    splits = " and ".join(provenance.splits)
    is_same = provenance.fingerprint == data.fingerprint
    if splits and not is_same and trained.trained_on == data.title:
        what = f"{data.title} has changed since the model was trained on its {splits} clips"
        err.print(f"note: {what}", soft_wrap=True)
    for branch, file in find_given_encodings(trained.config).items():
        if provenance.encodings.get(branch, "") not in ("", hash_source(file)):
            what = f"{branch}.encodings {file} has changed since the model was trained"
            err.print(f"note: {what}", soft_wrap=True)
    if split == "test":
        again = ", as the retraining did" if is_same and provenance.study else ""
        what = f"this reads the test split{again}; nothing should be chosen by its figures"
        err.print(f"note: {what}", soft_wrap=True)


def note_earlier_readings(trainings: "Sequence[TrialRecord]", data: DataSet) -> None:
    """Say so when retrainings of a study have read the test split of this data set before."""
    earlier = [
        training
        for training in trainings
        if training.outcome == "complete"
        and training.tags.get("avsc.data_fingerprint") == data.fingerprint
    ]
    if earlier:
        times = "once" if len(earlier) == 1 else f"{len(earlier)} times"
        what = f"retrainings of this study have read this test split {times} before"
        err.print(f"note: {what}; nothing should be chosen among them", soft_wrap=True)


def announce_split(config: "Config", data: DataSet) -> None:
    """Say which share of the training clips is held out for validation."""
    err.print(f"{data.title}, {describe_split(data, config.split)}", soft_wrap=True)


def print_trainings(
    results: Mapping[int, "Result"], config: "Config", data: DataSet, winner: "Winner | None"
) -> None:
    """Print the figures of each training by its seed, and what to do next.

    A model of encodings that were computed elsewhere does not predict new files.
    """
    split = "test" if winner else "val"
    rows = []
    for seed, result in results.items():
        scores = [f"{result.metrics[f'{split}_{name}']:.4f}" for name in ("acc", "logloss")]
        rows.append([str(seed), result.run_id, *scores])

    what = f"winner of {winner.study}" if winner else "training"
    out.print(make_table(f"{what} on {data.title}", ["seed", "run", "Acc", "Logloss"], rows))
    out.print(f"{'test' if winner else 'validation'} figures of {data.title}", style="bold")

    last = list(results.values())[-1]
    reference = last.registered or last.run_id
    out.print(f"next: avsc-core evaluate {reference}", soft_wrap=True)
    if not find_given_encodings(config):
        out.print(f"      avsc-core predict CLIP.mp4 --model {reference}", soft_wrap=True)


def print_evaluation(
    evaluation: "Evaluation", title: str, protocol: str, scene_names: Sequence[str]
) -> None:
    """Print every measure with its interval, then Acc and Logloss by scene and by city."""
    probability = evaluation.probability
    scenes = evaluation.scenes
    locations = evaluation.locations

    rows = []
    for name, estimate in estimate_scores(probability, scenes, locations).items():
        known = estimate.low == estimate.low  # nan: nothing says how far the figure moves
        interval = f"{estimate.low:.4f} to {estimate.high:.4f}" if known else "-"
        rows.append([name, f"{evaluation.metrics[name]:.4f}", interval])
    out.print(make_table(title, ["measure", "value", "95 % by location"], rows))

    by_scene = score_by_scene(probability, scenes, scene_names)
    by_city = score_by_city(probability, scenes, locations)
    for what, scores in (("scene", by_scene), ("city", by_city)):
        rows = []
        for key, (count, acc, logloss) in scores.items():
            rows.append([key, str(count), f"{acc:.4f}", f"{logloss:.4f}"])
        out.print(make_table("", [what, f"{protocol}s", "Acc", "Logloss"], rows))


def print_prediction(file: Path, prediction: Mapping[str, Any]) -> None:
    """Print the likeliest scene of a clip, and its likeliest events and objects as notes."""
    scenes = prediction["scenes"]
    scene = max(scenes, key=scenes.get)
    out.print(f"{file}: {scene} ({scenes[scene]:.2f})", soft_wrap=True)
    for kind in ("events", "objects"):
        likeliest = [f"{name} {value:.2f}" for name, value in prediction[kind].items()]
        err.print(f"  {kind}: {', '.join(likeliest)}")


def print_map(class_map: "ClassMap", files: Sequence[Path]) -> None:
    """Print the nearest pairs of a map, and the files it was written to: page, picture, pairs."""
    rows = [[pair.event, pair.object, f"{pair.cosine:.3f}"] for pair in class_map.pairs]
    out.print(make_table(class_map.title, ["event", "object", "cosine"], rows))
    for what, file in zip(("to explore in a browser", "picture", "pairs"), files, strict=True):
        out.print(f"{what}: {file}", soft_wrap=True)
