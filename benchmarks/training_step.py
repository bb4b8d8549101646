"""How fast is a training step of preset `paper`, and how much memory does it take?

Against the plain recipe: Hugging Face's AST, torchvision's ConvNeXt, Eq. 5 as it is written, AdamW as it comes; the
same losses, random weights and inputs. Each in a process of its own, so that the peak of memory is its own. Two clips
on a CPU, sixteen on a GPU, where the share of the card's 16-bit peak is told too (floating-point operations of the
backbones' matrix products, three times those of the forward pass).
"""

import math
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn

from avsc_core.config import Config
from avsc_core.model import build_model
from avsc_core.model.losses import build_losses
from avsc_core.model.network import Outputs
from avsc_core.resolve import Override, resolve
from avsc_core.trainer.device import autocast
from avsc_core.trainer.optim import build_optimiser
from benchmarks.cross_attention import DEVICE, literal, status_field
from benchmarks.report import keep

CLIPS = 16 if DEVICE == "cuda" else 2
STEPS = 10 if DEVICE == "cuda" else 2
PEAK = {"NVIDIA H200": 989e12}  # dense bf16 operations a second
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, bf16": {"training.precision": "bf16"},
    "ours": {},
    "ours, channels_last": {"compute.channels_last": True},
    "ours, bf16, channels_last": {"training.precision": "bf16", "compute.channels_last": True},
    "ours, micro-batches of 1": {"compute.micro_batch": 1},
    "ours, checkpointing": {"compute.checkpointing": True},
}
ON_GPU: dict[str, dict[str, Any]] = {
    "ours, bf16, channels_last, compiled": {
        "training.precision": "bf16",
        "compute.channels_last": True,
        "compute.compile": True,
    }
}


class PlainNet(nn.Module):
    """The paper's model as one would put it together from the shelf."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import convnext_base
        from transformers import ASTConfig, ASTModel

        self.audio, self.visual = ASTModel(ASTConfig()), convnext_base()
        self.audio_embed, self.visual_embed = nn.Linear(768, 1024), nn.Linear(1024, 1024)
        self.events, self.objects = nn.Linear(1024, 527), nn.Linear(1024, 1000)
        self.attention = nn.Parameter(torch.randn(2, 4, 8, 64) / 8)
        self.layer = nn.Sequential(
            nn.Linear(1527, 1024), nn.ReLU(), nn.Dropout(0.1), nn.Linear(1024, 10)
        )

    def forward(self, log_mel: Tensor, frames: Tensor) -> Outputs:
        heard = self.audio_embed(self.audio(log_mel).pooler_output).relu()
        features = self.visual.avgpool(self.visual.features(frames.flatten(0, 1)))
        pooled = self.visual.classifier[:2](features).unflatten(0, frames.shape[:2]).mean(1)
        seen = self.visual_embed(pooled).relu()
        event_logits, object_logits = self.events(heard).float(), self.objects(seen).float()
        event, thing = event_logits.sigmoid(), object_logits.sigmoid()
        tokens = (
            event + literal(event, thing, *self.attention[0]),
            thing + literal(thing, event, *self.attention[1]),
        )
        return Outputs(
            event_logits, object_logits, self.layer(torch.cat(tokens, 1)).float(), heard, seen
        )

    @property
    def event_classifier_weight(self) -> Tensor:
        """(E,D)."""
        return self.events.weight

    @property
    def object_classifier_weight(self) -> Tensor:
        """(O,D)."""
        return self.objects.weight


def steps(config: Config, plain: bool) -> Iterator[float]:
    """Seconds of one training step after another."""
    torch.manual_seed(0)
    device = torch.device(DEVICE)
    model: Any = (PlainNet() if plain else build_model(config)).to(device).train()
    own = config.training
    optimiser = (
        torch.optim.AdamW(model.parameters(), own.learning_rate)
        if plain
        else build_optimiser(model, own)
    )
    losses = build_losses(config)
    log_mel = torch.randn(CLIPS, 1024, 128, device=device)
    frames = torch.randn(CLIPS, 10, 3, 224, 224, device=device)
    events, objects = (
        torch.randint(0, 2, (CLIPS, classes), device=device) for classes in (527, 1000)
    )
    scenes = torch.randint(0, 10, (CLIPS,), device=device)
    while True:
        start = time.perf_counter()
        with autocast(config, device):
            outputs = model(log_mel, frames)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(losses(model, outputs, events, objects, scenes, None)["total"])
        optimiser.step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        yield time.perf_counter() - start


def measure(name: str) -> dict[str, Any]:
    """One row, in this process."""
    overrides = [Override(key, value, name) for key, value in (WAYS | ON_GPU)[name].items()]
    running = steps(resolve("paper", overrides), name.startswith("plain"))
    next(running)  # warms up
    seconds = min(next(running) for _ in range(STEPS))
    peak = (
        torch.cuda.max_memory_allocated() / 2**30
        if DEVICE == "cuda"
        else status_field("VmHWM") / 2**20
    )
    return {"form": name, "s a step": seconds, "clips a second": CLIPS / seconds, "GiB": peak}


def operations() -> float:
    """Floating-point operations of a step's backbones, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = build_model(resolve("paper"))
        model(torch.empty(CLIPS, 1024, 128), torch.empty(CLIPS, 10, 3, 224, 224))
    return 3.0 * float(counter.get_total_flops())


def main() -> None:
    rows = []
    for name in WAYS | (ON_GPU if DEVICE == "cuda" else {}):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            rows.append(pool.submit(measure, name).result())
    plain = rows[0]["s a step"]
    peak = PEAK.get(torch.cuda.get_device_name()) if DEVICE == "cuda" else None
    for row in rows:
        row["times faster than plain"] = plain / row["s a step"]
        row["share of peak"] = operations() / row["s a step"] / peak if peak else math.nan
    if peak is None:
        for row in rows:
            del row["share of peak"]
    keep("training_step", f"one step of preset paper, {CLIPS} clips", rows)


if __name__ == "__main__":
    main()
