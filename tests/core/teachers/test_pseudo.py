"""Pseudo-labels by the real command, against the AST of Hugging Face and torchvision's ConvNeXt."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torchvision.transforms._presets import ImageClassification

from avsc_core.config import PseudoLabels
from avsc_core.data.dataset import read_dataset
from avsc_core.data.features import build_features
from avsc_core.data.tau import read_clips
from avsc_core.errors import UserError
from avsc_core.labels import SCORES, Labels, name_object_scores, read_labels
from avsc_core.processes import no_progress
from avsc_core.record.recorder import Recorder
from avsc_core.resolve import parse_set, resolve
from avsc_core.teachers import pseudo
from avsc_core.teachers.pseudo import Positives, compute_readings, label_clips, list_warnings
from avsc_core.teachers.taggers import Teacher
from tests.builders.configs import TINY
from tests.builders.weights import reference_ast, reference_convnext, save_ast

transformers = pytest.importorskip("transformers")

FRAMES = 2
ComputeLogits = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each reference, in every layout."""
    folder = tmp_path_factory.mktemp("teachers")
    found = {
        layout: save_ast(named_ast(), layout, folder / layout)
        for layout in ("authors", "published", "current")
    }
    torch.save(reference_convnext().state_dict(), folder / "convnext.pth")
    return found | {"convnext": folder / "convnext.pth"}


def named_ast() -> Any:
    model = reference_ast(frames=1024)
    model.config.id2label = {number: f"sound {number}" for number in range(7)}
    return model


@pytest.fixture(scope="module")
def by_command(
    scenes: Path, teachers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    """`avsc-core pseudo` on the embedded scenes' files."""
    folder = tmp_path_factory.mktemp("by_command")
    command = [
        sys.executable,
        "-c",
        "from avsc_core.cli import main; main()",
        "pseudo",
        str(scenes),
    ]
    command += [
        "--audio-teacher",
        str(teachers["published"]),
        "--visual-teacher",
        str(teachers["convnext"]),
    ]
    command += ["--out", str(folder / "labels.npz"), "--set", f"pictures.frames={FRAMES}"]
    return (
        folder,
        folder / "labels.npz",
        subprocess.run(command, capture_output=True, text=True, cwd=folder),
    )


def expected_events(scenes: Path, names: list[str], eps: float) -> np.ndarray:
    """Hugging Face's own feature extractor and model, from the wav files."""
    extractor = transformers.ASTFeatureExtractor()
    model = reference_ast(frames=1024)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = eps
    model.classifier.layernorm.eps = (
        1e-5 if eps == 1e-6 else eps
    )  # the authors' tagger has torch's default there
    rows = []
    for name in names:
        samples, rate = soundfile.read(
            scenes / "audio" / f"{name}.wav", dtype="float32", always_2d=True
        )
        mono = torch.from_numpy(samples).mean(1)
        import torchaudio

        mono = torchaudio.functional.resample(mono, rate, 16000)
        inputs = extractor(mono.numpy(), sampling_rate=16000, return_tensors="pt")["input_values"]
        with torch.inference_mode():
            rows.append(model(inputs).logits.sigmoid()[0].numpy())
    return np.stack(rows)


def expected_objects(scenes: Path, names: list[str]) -> np.ndarray:
    """torchvision's transforms and model, on frames of the mp4 files at 0.4 s and 5.4 s."""
    transforms = ImageClassification(crop_size=224, resize_size=232)
    model = reference_convnext()
    rows = []
    for name in names:
        with av.open(str(scenes / "video" / f"{name}.mp4")) as container:
            decoded = [
                (frame.time, frame.to_ndarray(format="rgb24"))
                for frame in container.decode(video=0)
            ]
        pictures = [[picture for time, picture in decoded if time <= at][-1] for at in (0.4, 5.4)]
        batch = torch.stack(
            [transforms(torch.from_numpy(picture).permute(2, 0, 1)) for picture in pictures]
        )
        with torch.inference_mode():
            rows.append(model(batch).sigmoid().amax(0).numpy())
    return np.stack(rows)


def test_the_command_agrees_with_the_references(
    scenes: Path, by_command: tuple[Path, Path, subprocess.CompletedProcess[str]]
):
    _, path, done = by_command
    assert done.returncode == 0, done.stderr
    labels = read_labels(path)
    assert len(labels.clips) == 30
    assert labels.event_names == [f"sound {number}" for number in range(7)]
    assert labels.object_names == [f"object {number}" for number in range(5)]
    some = [0, 11, 29]
    names = [labels.clips[row] for row in some]
    assert (
        np.abs(labels.scores["event_sigmoid"][some] - expected_events(scenes, names, 1e-12)).max()
        < 1e-5
    )
    assert (
        np.abs(labels.scores["object_sigmoid_max"][some] - expected_objects(scenes, names)).max()
        < 1e-5
    )
    assert labels.scores["event_sigmoid"].std(0).max() > 0.003  # the clips do differ
    assert labels.scores["object_sigmoid_max"].std(0).max() > 0.003
    assert np.array_equal(labels.events, labels.scores["event_sigmoid"] >= 0.0365)
    assert np.array_equal(labels.objects, labels.scores["object_sigmoid_max"] >= 0.9216)


def test_the_command_says_and_records_the_positives(
    scenes: Path, by_command: tuple[Path, Path, subprocess.CompletedProcess[str]]
):
    folder, path, done = by_command
    assert "positives per clip" in done.stdout
    labels = read_labels(path)
    uri = f"sqlite:///{folder}/mlruns/mlflow.db"
    (run,) = Recorder(uri).list_trials("pseudo", "pseudo")
    split = {clip.name: clip.split for clip in read_clips(scenes)[0]}
    own = [
        labels.events[row].sum() for row, name in enumerate(labels.clips) if split[name] == "test"
    ]
    assert run.metrics["events_mean_test"] == pytest.approx(np.mean(own))
    assert run.metrics["events_median_test"] == np.median(own)
    assert len(run.tags["avsc.teacher.audio.sha256"]) == 64
    assert run.outcome == "complete"


@pytest.mark.parametrize("layout", ["authors", "current"])
def test_the_other_layouts_agree_too(
    scenes: Path, teachers: dict[str, Path], tmp_path: Path, layout: str
):
    # A bare file does not say its heads; without these two settings, AST's 64 dimensions a head are
    # assumed.
    config = resolve(
        "paper", parse_set([f"pictures.frames={FRAMES}", "audio.width=24", "audio.heads=3"])
    )
    labelling = label_clips(
        scenes,
        config,
        str(teachers[layout]),
        str(teachers["convnext"]),
        tmp_path / "l.npz",
        no_progress,
    )
    labels = read_labels(labelling.path)
    expected = expected_events(scenes, labels.clips[:2], 1e-6 if layout == "authors" else 1e-12)
    assert np.abs(labels.scores["event_sigmoid"][:2] - expected).max() < 1e-5


def test_a_stopped_run_goes_on(
    scenes: Path, teachers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AVSC_CACHE", str(tmp_path / "cache"))
    config = resolve("paper", parse_set([f"pictures.frames={FRAMES}", "training.batch_size=7"]))
    arguments = (
        scenes,
        config,
        str(teachers["published"]),
        str(teachers["convnext"]),
        tmp_path / "l.npz",
    )
    reported: list[tuple[str, int]] = []

    def stop(what: str, done: int, total: int) -> None:
        reported.append((what, done))
        if what.startswith("asking") and done == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_clips(*arguments, stop)
    reported.clear()
    label_clips(*arguments, lambda what, done, total: reported.append((what, done)))
    heard = [done for what, done in reported if what.startswith("asking AST")]
    assert heard == [21, 28, 30]  # the first 14 clips are not asked again
    reported.clear()
    label_clips(*arguments, lambda what, done, total: reported.append((what, done)))
    assert reported == []
    once = read_labels(tmp_path / "l.npz")
    whole = label_clips(*arguments[:4], tmp_path / "w.npz", no_progress)
    assert all(
        np.array_equal(once.scores[name], read_labels(whole.path).scores[name]) for name in SCORES
    )


def test_a_changed_or_added_clip_costs_that_clip(
    scenes: Path, teachers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    computed: dict[str, list[int]] = {"event_logits": [], "object_logits": []}
    start_teacher = pseudo._start_teacher

    def start_spied_teacher(teacher: Teacher, *arguments: Any) -> ComputeLogits:
        compute = start_teacher(teacher, *arguments)
        kind = "event_logits" if teacher.heads else "object_logits"

        def compute_spied(rows: np.ndarray) -> np.ndarray:
            computed[kind] += rows.tolist()
            return compute(rows)

        return compute_spied

    def label(root: Path) -> Labels:
        for rows in computed.values():
            rows.clear()
        config = resolve("paper", parse_set([f"pictures.frames={FRAMES}"]))
        sources = str(teachers["published"]), str(teachers["convnext"])
        return read_labels(
            label_clips(root, config, *sources, tmp_path / "l.npz", no_progress).path
        )

    monkeypatch.setattr(pseudo, "_start_teacher", start_spied_teacher)
    monkeypatch.setenv("AVSC_CACHE", str(tmp_path / "cache"))
    clips = read_clips(scenes)[0]
    before = label(copy_scenes(scenes, tmp_path / "before", without=clips[29].name))
    assert computed == {"event_logits": list(range(29)), "object_logits": list(range(29))}

    root = copy_scenes(scenes, tmp_path / "after")
    sound = root / "audio" / clips[3].audio.name
    film = root / "video" / clips[5].video.name
    samples, rate = soundfile.read(sound)
    soundfile.write(sound, samples[::-1], rate)
    film.write_bytes(film.read_bytes() + b"\0\0\0\x08free")  # an empty box: the same pictures
    after = label(root)
    assert computed == {"event_logits": [3, 29], "object_logits": [5, 29]}
    kept = np.delete(np.arange(29), 3)
    events = after.scores["event_sigmoid"]
    assert np.array_equal(events[kept], before.scores["event_sigmoid"][kept])
    assert not np.array_equal(events[3], before.scores["event_sigmoid"][3])
    label(root)
    assert computed == {"event_logits": [], "object_logits": []}


def copy_scenes(scenes: Path, root: Path, without: str = "") -> Path:
    """Copy the embedded scenes, without one clip."""
    shutil.copytree(scenes, root)
    for table in [root / "meta.csv", *(root / "evaluation_setup").glob("*.csv")]:
        lines = table.read_text().splitlines(keepends=True)
        table.write_text("".join(line for line in lines if not without or without not in line))
    return root


def test_every_reading_of_the_logits():
    rng = np.random.default_rng(0)
    events = rng.normal(size=(3, 4)).astype(np.float32)
    objects = rng.normal(size=(3, 2, 5)).astype(np.float32)
    found = compute_readings(events, objects)
    assert set(found) == set(SCORES)
    sigmoid = 1 / (1 + np.exp(-objects.astype(np.float64)))
    softmax = np.exp(objects) / np.exp(objects).sum(-1, keepdims=True)
    assert np.allclose(found["event_sigmoid"], 1 / (1 + np.exp(-events)), atol=1e-6)
    for activation, values in (("sigmoid", sigmoid), ("softmax", softmax)):
        assert np.allclose(found[name_object_scores(activation, "max")], values.max(1), atol=1e-6)
        assert np.allclose(found[name_object_scores(activation, "mean")], values.mean(1), atol=1e-6)


def test_a_study_can_vary_thresholds_and_readings(
    scenes: Path, teachers: dict[str, Path], tmp_path: Path
):
    root = tmp_path / "data"
    root.mkdir()
    for part in ("audio", "video", "evaluation_setup", "meta.csv"):
        (root / part).symlink_to(scenes / part)
    config = resolve("paper", parse_set([f"pictures.frames={FRAMES}"]))
    label_clips(
        root, config, str(teachers["published"]), str(teachers["convnext"]), None, no_progress
    )
    data = read_dataset(root)
    labels = read_labels(root / "labels.npz")
    sizes = ["audio.classes=7", "visual.classes=5", "alignment.k=2"]
    varied = [
        "pseudo.event_threshold=0.5",
        "pseudo.object_activation=softmax",
        "pseudo.object_pooling=mean",
    ]
    features = build_features(
        data, resolve("demo", parse_set([*TINY, *sizes, *varied])), no_progress
    )
    assert np.array_equal(features.events, labels.scores["event_sigmoid"] >= 0.5)
    assert np.array_equal(features.objects, labels.scores["object_softmax_mean"] >= 0.9216)
    plain = build_features(data, resolve("demo", parse_set([*TINY, *sizes])), no_progress)
    assert np.array_equal(plain.events, labels.events)


def test_true_labels_have_no_readings(scenes: Path):
    config = resolve("demo", parse_set([*TINY, "pseudo.event_threshold=0.5"]))
    with pytest.raises(UserError, match=r"pseudo: .* has true labels, no teachers' probabilities"):
        build_features(read_dataset(scenes), config, no_progress)
    assert PseudoLabels().event_threshold == 0.0365


def test_true_labels_are_never_written_over(scenes: Path, teachers: dict[str, Path]):
    before = (scenes / "labels.npz").read_bytes()
    with pytest.raises(UserError, match=r"labels\.npz: holds true labels; give --out"):
        label_clips(
            scenes,
            resolve("paper"),
            str(teachers["published"]),
            str(teachers["convnext"]),
            None,
            no_progress,
        )
    assert (scenes / "labels.npz").read_bytes() == before


def test_all_faults_before_any_work(tmp_path: Path, teachers: dict[str, Path]):
    tensors = load_file(teachers["published"] / "model.safetensors")
    save_file(
        {name: each for name, each in tensors.items() if "classifier" not in name},
        tmp_path / "a.safetensors",
    )
    with pytest.raises(UserError) as caught:
        label_clips(
            tmp_path,
            resolve("paper"),
            str(tmp_path / "a.safetensors"),
            "nowhere.pth",
            None,
            no_progress,
        )
    lines = [str(fault) for fault in caught.value.faults]
    assert "not a TAU data set" in lines[0]
    assert "has no tensor head.norm.weight; a whole tagger, with its classifier" in lines[1]
    assert lines[-1].startswith("--visual-teacher: nowhere.pth does not exist")


def test_warnings():
    rows = [
        Positives("events", "train", 9, 0.0, 0.3, 0.8),
        Positives("objects", "train", 9, 120.0, 130.0, 0.0),
        Positives("objects", "test", 9, 3.0, 3.0, 0.0),
    ]
    assert list_warnings(rows) == [
        "half of the train clips have no events; lower pseudo.event_threshold",
        "half of the train clips have 120 or more objects; raise pseudo.object_threshold",
    ]
