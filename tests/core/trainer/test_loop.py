"""The training loop: it learns, repeats itself to the last digit, continues, notices divergence."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avsc_core.config import Config
from avsc_core.data.dataset import SplitRows, split_rows
from avsc_core.data.features import Features
from avsc_core.errors import Diverged
from avsc_core.metrics import direction_of
from avsc_core.model import build_model
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer.checkpoint import CheckpointFile
from avsc_core.trainer.device import seed_all
from avsc_core.trainer.loop import fit
from avsc_core.trainer.optim import build_optimiser, build_schedule
from tests.builders.configs import TINY
from tests.builders.trainings import begin_training


@pytest.fixture(scope="module")
def parts(features: Features, tiny: Config) -> SplitRows:
    return split_rows(features.data, tiny.split)


def run(
    config: Config, features: Features, parts: SplitRows, **options: object
) -> list[dict[str, float]]:
    return [
        epoch.metrics for epoch in fit(config, features, parts.train, parts.validation, **options)
    ]


def test_the_same_seed_gives_the_same_digits(features: Features, parts: SplitRows, tiny: Config):
    first = run(tiny, features, parts)
    torch.rand(7)  # whatever a worker process did before
    assert run(tiny, features, parts) == first
    other = run(tiny.model_copy(update={"seed": 1}), features, parts)
    assert other[0]["train_total"] != first[0]["train_total"]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_other_precisions_train_as_well(features: Features, parts: SplitRows, precision: str):
    """Near float32's losses; fp16 skips a few steps first, until the scale of its loss fits."""
    sets = [*TINY, "training.epochs=20"]
    exact = run(resolve("demo", parse_set(sets)), features, parts)
    other = run(
        resolve("demo", parse_set([*sets, f"training.precision={precision}"])), features, parts
    )
    assert other != exact
    assert exact[-1]["train_total"] < 0.9 * exact[0]["train_total"]
    assert other[-1]["train_total"] == pytest.approx(exact[-1]["train_total"], rel=0.05)


def test_tf32_is_float32_on_a_cpu_and_on_for_this_training_only(
    features: Features, parts: SplitRows, tiny: Config
):
    """A worker trains one trial after another, and torch leaves TF32 on for convolutions."""
    exact = run(tiny, features, parts)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    rounded = resolve("demo", parse_set([*TINY, "training.precision=tf32"]))
    assert run(rounded, features, parts) == exact
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32
    run(tiny, features, parts)
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("precision", ["float32", "fp16"])
@pytest.mark.parametrize("mode", ["lkm", "rkm"])
@pytest.mark.parametrize("stop_after", [1, 2])  # the last epoch has none
def test_a_continued_trial_ends_with_the_same_digits(
    features: Features, parts: SplitRows, tmp_path: Path, mode: str, stop_after: int, precision: str
):
    config = resolve(
        "demo", parse_set([*TINY, f"alignment.mode={mode}", f"training.precision={precision}"])
    )
    whole = run(config, features, parts)
    path = tmp_path / "trial.pt"
    told = begin_training(config, features, parts, path, stop_after)
    continued = run(config, features, parts, checkpoint=CheckpointFile(path, minutes=0))
    assert told == whole[:stop_after]
    assert continued == whole[stop_after - 1 :]  # the checkpoint's own epoch is told once more


@pytest.mark.parametrize("precision", ["float32", "fp16"])
@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_trial_with_all_of_training_continues_to_the_same_digits(
    features: Features, parts: SplitRows, tmp_path: Path, stop_after: int, precision: str
):
    """Averaged weights, a falling rate, stages, layer-wise rates, clipping, class weights."""
    sets = (
        "training.ema=0.8",
        "training.schedule=cosine",
        "training.heads_first=1",
        "training.second_stage=0.3",
        "training.layer_decay=0.7",
        "training.fusion_multiplier=2",
        "training.clip_norm=1",
        "losses.class_weights=balanced",
        "losses.label_smoothing=0.1",
        "losses.coarse=0.5",
        "compute.channels_last=true",
        f"training.precision={precision}",
    )
    config = resolve("demo", parse_set([*TINY, *sets]))
    whole = run(config, features, parts)
    path = tmp_path / "trial.pt"
    begin_training(config, features, parts, path, stop_after)
    continued = run(config, features, parts, checkpoint=CheckpointFile(path, minutes=0))
    assert continued == whole[stop_after - 1 :]


def test_rkm_does_not_draw_the_numbers_of_dropout():
    """One seed, two streams; each follows from seed and epoch alone."""
    for seed in range(5):
        for epoch in range(5):
            generator = seed_all(seed, epoch)
            ours, theirs = torch.rand(20, generator=generator), torch.rand(20)
            assert not torch.equal(ours, theirs)
            assert generator.initial_seed() != torch.initial_seed()
            again = seed_all(seed, epoch)
            assert torch.equal(torch.rand(20, generator=again), ours)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "way",
    [
        "training.precision=bf16",
        "training.precision=fp16",
        "compute.channels_last=true",
        "compute.micro_batch=2",
    ],
)
def test_training_on_a_gpu(features: Features, parts: SplitRows, tiny: Config, way: str):
    config = resolve("demo", parse_set([*TINY, "device=cuda", way]))
    there, here = run(config, features, parts), run(tiny, features, parts)
    assert [epoch["train_total"] for epoch in there] == pytest.approx(
        [e["train_total"] for e in here], rel=0.1
    )


def test_it_learns(features: Features, parts: SplitRows):
    config = resolve(
        "demo",
        parse_set(
            [*TINY, "training.epochs=60", "training.learning_rate=5e-3", "loss_weights.scene=10"]
        ),
    )
    metrics = run(config, features, parts)
    assert metrics[-1]["train_total"] < 0.6 * metrics[0]["train_total"]
    assert metrics[-1]["train_scene"] < 1.5  # chance is ln 10 = 2.3


def test_best_follows_the_metric(features: Features, parts: SplitRows, tiny: Config):
    for metric in ("val_acc", "val_logloss"):
        epochs = list(fit(tiny, features, parts.train, parts.validation, metric=metric))
        values = [epoch.metrics[metric] for epoch in epochs]
        selection = epochs[-1].selection
        assert selection is not None
        best = selection.best
        pick = {"max": max, "min": min}[direction_of(metric)]
        assert best.metrics[metric] == pick(values)
        assert best.probability.shape == (len(parts.validation), 10)


def test_divergence_is_noticed(features: Features, parts: SplitRows):
    config = resolve("demo", parse_set([*TINY, "loss_weights.scene=3e38"]))
    with pytest.raises(Diverged, match=r"epoch \d+: .* is not finite"):
        run(config, features, parts)


def test_without_validation_there_is_no_best(features: Features, tiny: Config):
    rows = np.arange(30)
    epochs = list(fit(tiny, features, rows, rows[:0], epochs=1))
    assert len(epochs) == 1
    assert epochs[0].selection is None
    assert not any(name.startswith("val_") for name in epochs[0].metrics)


def test_validation_rows_do_not_reach_the_model(features: Features, parts: SplitRows, tiny: Config):
    changed = features._replace(
        frames=np.array(features.frames), log_mel=np.array(features.log_mel)
    )
    changed.frames[parts.validation] = 0
    changed.log_mel[parts.validation] = 0
    mine, theirs = run(tiny, features, parts), run(tiny, changed, parts)
    assert [epoch["train_total"] for epoch in mine] == [epoch["train_total"] for epoch in theirs]
    assert mine != theirs


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_one_modality_ignores_the_other(features: Features, parts: SplitRows, modality: str):
    config = resolve("demo", parse_set([*TINY, f"modality={modality}"]))
    first = run(config, features, parts)
    changed = features._replace(
        **{
            "frames" if modality == "audio" else "log_mel": np.zeros_like(
                features.frames if modality == "audio" else features.log_mel
            )
        }
    )
    assert run(config, changed, parts) == first
    assert not {"train_e2o", "train_o2e"} & set(first[0])


def test_groups_of_the_optimiser():
    config = resolve(
        "demo",
        parse_set(
            [
                "training.head_multiplier=10",
                "training.weight_decay=0.3",
                "training.learning_rate=2e-3",
            ]
        ),
    )
    model = build_model(config)
    optimiser = build_optimiser(model, config.training)
    of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    assert len(of) == len(list(model.parameters()))
    assert of[id(model.audio.encoder.backbone.blocks[0].attn.qkv.weight)]["lr"] == pytest.approx(
        2e-3
    )
    assert of[id(model.audio.classifier.weight)]["lr"] == pytest.approx(2e-2)
    assert of[id(model.audio.classifier.weight)]["weight_decay"] == 0.3
    assert of[id(model.audio.classifier.bias)]["weight_decay"] == 0.0


def test_the_warm_up_rises_and_stays():
    settings = resolve(
        "demo", parse_set(["training.warmup=0.2", "training.learning_rate=0.002"])
    ).training
    optimiser = build_optimiser(torch.nn.Linear(2, 2), settings)
    schedule = build_schedule(optimiser, settings, 10)
    rates = []
    for _ in range(settings.epochs * 10):
        rates.append(optimiser.param_groups[0]["lr"] / 0.002)
        optimiser.step()
        schedule.step()
    warm = round(0.2 * len(rates))
    assert rates[:warm] == pytest.approx([(step + 1) / (warm + 1) for step in range(warm)])
    assert rates[warm:] == pytest.approx([1.0] * (len(rates) - warm))
