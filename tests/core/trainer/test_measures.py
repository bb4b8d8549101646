"""What SF adds and where CEOA's rows are, against plain numpy; present only with the module."""

import numpy as np
import pytest
import torch

from avsc_core.data.dataset import split_rows
from avsc_core.data.features import Features
from avsc_core.model import build_model
from avsc_core.resolve import parse_set, resolve
from avsc_core.trainer.inference import run_model
from avsc_core.trainer.loop import fit
from avsc_core.trainer.measures import copy_rows, measure_fusion, measure_rows
from tests.builders.configs import TINY

SF = {"sf_added_events", "sf_added_objects"}
ROWS = {"event_row_norm", "object_row_norm", "event_row_moved", "object_row_moved"}


def attend_literally(query: np.ndarray, key: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Eq. 5 for one clip: (Nq,), (Nk,), (4,H,d) -> (Nq,)."""
    output = np.zeros_like(query)
    for w_q, w_k, w_v, w_o in weight.swapaxes(0, 1):
        scores = np.outer(query, w_q) @ np.outer(key, w_k).T / np.sqrt(len(w_q))
        powers = np.exp(scores - scores.max(1, keepdims=True))
        attention = powers / powers.sum(1, keepdims=True)
        output += attention @ np.outer(key, w_v) @ w_o
    return output


@pytest.mark.parametrize("tokens", ["probability", "logit"])
def test_what_sf_adds_is_measured_over_the_classes_of_a_clip(tokens: str):
    torch.manual_seed(0)
    config = resolve("demo", parse_set([*TINY, f"fusion.tokens={tokens}", "fusion.dropout=0.5"]))
    model = build_model(config)
    with torch.no_grad():
        model.fusion.events_ask.weight.mul_(4)  # far from a constant
    outputs = run_model(model, torch.randn(5, 64, 128), 9 * torch.randn(5, 1, 3, 32, 32), config)
    found = measure_fusion(model, outputs)

    events, objects = outputs.event_logits, outputs.object_logits
    if tokens == "probability":
        events, objects = events.sigmoid(), objects.sigmoid()
    wanted: dict[str, list[float]] = {"sf_added_events": [], "sf_added_objects": []}
    for event, object_ in zip(events.double().numpy(), objects.double().numpy(), strict=True):
        for name, query, key, module in (
            ("sf_added_events", event, object_, model.fusion.events_ask),
            ("sf_added_objects", object_, event, model.fusion.objects_ask),
        ):
            added = attend_literally(query, key, module.weight.detach().double().numpy())
            wanted[name].append(added.std(ddof=1) / query.std(ddof=1))
    for name, values in wanted.items():
        assert float(found[name]) == pytest.approx(np.mean(values), rel=0.02), name


def test_tokens_that_do_not_vary_give_a_number():
    config = resolve("demo", parse_set(TINY))
    model = build_model(config)
    outputs = run_model(model, torch.randn(2, 64, 128), torch.randn(2, 1, 3, 32, 32), config)
    same = outputs._replace(event_logits=torch.zeros(2, 64), object_logits=torch.zeros(2, 64))
    assert all(torch.isfinite(value) for value in measure_fusion(model, same).values())


def test_rows_are_measured_by_norm_and_distance():
    model = build_model(resolve("demo", parse_set(TINY)))
    start = copy_rows(model)
    rows = start["event"].double().numpy()
    with torch.no_grad():
        model.audio.classifier.weight[3] += 2.0
    found = measure_rows(model, start)
    moved = rows.copy()
    moved[3] += 2.0
    norms = np.sqrt((rows**2).sum(1))
    distances = np.sqrt(((moved - rows) ** 2).sum(1))
    assert found["event_row_norm"] == pytest.approx(np.sqrt((moved**2).sum(1)).mean())
    assert found["event_row_moved"] == pytest.approx((distances / norms).mean())
    assert found["object_row_moved"] == 0


@pytest.mark.parametrize(
    ("sets", "names"),
    [
        ((), SF | ROWS),
        (("fusion.kind=none",), ROWS),
        (("alignment.enabled=false",), SF),
        (("modality=audio",), set()),
        (("audio.freeze=all", "visual.freeze=all", "training.ema=0.9"), SF | ROWS),
    ],
)
def test_metrics_where_the_module_is(features: Features, sets: tuple[str, ...], names: set[str]):
    config = resolve("demo", parse_set([*TINY, *sets]))
    rows = split_rows(features.data, config.split)
    for epoch in fit(config, features, rows.train, rows.validation):
        found = {name for name in epoch.metrics if not name.startswith(("train_", "val_"))}
        assert found == names
    if "event_row_moved" in names:
        assert epoch.metrics["event_row_moved"] > 0
    alone = next(fit(config, features, rows.train, rows.validation[:0]))
    assert not {name for name in alone.metrics if not name.startswith("train_")}
