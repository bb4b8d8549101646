"""A training step beyond the paper's: clipped gradients, averaged weights, heads first."""

import pytest
import torch

from avsc_core.config import Config
from avsc_core.data.batches import Batch
from avsc_core.data.dataset import SplitRows, split_rows
from avsc_core.data.features import Features
from avsc_core.metrics import compute_scores
from avsc_core.model import build_model
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer.loop import fit, predict_rows
from avsc_core.trainer.step import TrainingParts, build_training, start_epoch, train_step
from tests.builders.configs import TINY


def configure(*sets: str) -> Config:
    return resolve("demo", parse_set([*TINY, "training.warmup=0", *sets]))


@pytest.fixture(scope="module")
def parts(features: Features, tiny: Config) -> SplitRows:
    return split_rows(features.data, tiny.split)


def make_training(*sets: str) -> TrainingParts:
    torch.manual_seed(0)
    config = configure(*sets)
    return build_training(config, build_model(config).train(), steps_per_epoch=4)


def make_batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        log_mel=torch.randn(4, 64, 128, generator=generator),
        frames=torch.randn(4, 1, 3, 32, 32, generator=generator),
        events=torch.randint(0, 2, (4, 64), generator=generator).float(),
        objects=torch.randint(0, 2, (4, 64), generator=generator).float(),
        scenes=torch.tensor([0, 3, 9, 3]),
    )


def list_gradients(training: TrainingParts) -> dict[str, torch.Tensor]:
    """The gradients that the last step used, in float64."""
    return {
        name: parameter.grad.double()
        for name, parameter in training.model.named_parameters()
        if parameter.grad is not None
    }


def compute_norm(gradients: dict[str, torch.Tensor]) -> float:
    return sum(float((gradient**2).sum()) for gradient in gradients.values()) ** 0.5


@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_gradients_are_clipped_by_their_global_norm(precision: str):
    """All by one factor, and none when the norm is below the limit; fp16's scale is taken off."""
    # at fp16's first scale, 65536, the gradients of the tagging losses' sums would not be finite
    small = ("losses.bce_reduction=mean", "loss_weights.e2o=0.1", "loss_weights.o2e=0.1")
    sets = (f"training.precision={precision}", "fusion.dropout=0", *small)
    plain = make_training(*sets, "training.clip_norm=1e9")
    clipped = make_training(*sets, "training.clip_norm=0.5")
    for training in (plain, clipped):
        train_step(training, make_batch())
    whole = list_gradients(plain)
    norm = compute_norm(whole)
    assert 0.5 < norm < 1e3
    for name, gradient in list_gradients(clipped).items():
        assert torch.allclose(gradient, whole[name] * 0.5 / norm, rtol=1e-4, atol=1e-9), name


def test_without_a_limit_nothing_is_clipped():
    training = make_training()
    train_step(training, make_batch())
    assert compute_norm(list_gradients(training)) > 1


def test_averaged_weights_are_the_recursion_in_float64():
    training = make_training("training.ema=0.7", "training.learning_rate=1e-2")
    wanted = {name: tensor.double() for name, tensor in training.model.state_dict().items()}
    for number in range(6):
        train_step(training, make_batch(number))
        for name, tensor in training.model.state_dict().items():
            wanted[name] = 0.7 * wanted[name] + 0.3 * tensor.double()
    averaged = training.result.state_dict()
    assert training.result is not training.model
    assert averaged.keys() == wanted.keys()
    for name, tensor in averaged.items():
        assert torch.allclose(tensor.double(), wanted[name], rtol=1e-5, atol=1e-7), name
    assert make_training().result.state_dict().keys() == wanted.keys()


@pytest.mark.parametrize("freeze", ["none", "all"])
def test_the_averaged_model_is_validated_and_kept(
    features: Features, parts: SplitRows, freeze: str
):
    config = configure("training.ema=0.9", f"audio.freeze={freeze}", f"visual.freeze={freeze}")
    *_, epoch = fit(config, features, parts.train, parts.validation)
    probability, _ = predict_rows(epoch.model, epoch.inputs, parts.validation, config)
    scores = compute_scores(probability, features.data.scenes[parts.validation])
    assert scores["logloss"] == epoch.metrics["val_logloss"]
    plain = [e.metrics for e in fit(configure(), features, parts.train, parts.validation)]
    if freeze == "none":  # training itself does not change
        assert plain[-1]["train_total"] == epoch.metrics["train_total"]
        assert plain[-1]["val_logloss"] != epoch.metrics["val_logloss"]


def test_first_the_new_layers_then_everything():
    """In the first stage backbones keep weights and batch statistics; frozen stages always do."""
    training = make_training(
        "training.heads_first=2",
        "training.weight_decay=0.5",
        "training.learning_rate=1e-2",
        "visual.backbone=resnet10t",
        "audio.depth=2",
        "audio.freeze=1",
        "audio.embedding=16",
    )
    frozen = {name for name, value in training.model.named_parameters() if not value.requires_grad}
    for number in (1, 2, 3):
        before = {name: value.clone() for name, value in training.model.state_dict().items()}
        start_epoch(training, number)
        train_step(training, make_batch(number))
        changed = {
            name
            for name, value in training.model.state_dict().items()
            if not torch.equal(value, before[name])
        }
        in_backbones = {name for name in changed if ".encoder." in name}
        assert not changed & frozen
        assert {"audio.classifier.weight", "fusion.layer.layers.0.weight"} <= changed
        if number <= 2:
            assert not in_backbones
        else:
            assert "audio.encoder.backbone.blocks.1.attn.qkv.weight" in in_backbones
            assert any(name.endswith("running_mean") for name in in_backbones)
    assert {name for name, value in training.model.named_parameters() if not value.requires_grad}


def test_stages_change_what_a_training_learns(features: Features, parts: SplitRows):
    """Heads alone learn less; the second stage is the plain training when it is the first."""

    def run(*sets: str) -> list[dict[str, float]]:
        epochs = fit(configure(*sets), features, parts.train, parts.validation)
        return [epoch.metrics for epoch in epochs]

    plain = run()
    heads = run("training.heads_first=1", "training.second_stage=0.1")
    assert heads[0]["train_total"] != plain[0]["train_total"]
    assert run("training.second_stage=0.1") == plain
    assert run("training.heads_first=1") != heads
