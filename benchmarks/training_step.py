"""How fast is a training step of preset `paper`, and how much memory does it take?

The rival is the plain recipe: Hugging Face's AST, torchvision's ConvNeXt, Eq. 5 as it is written,
AdamW with its defaults; the same losses, random weights and inputs. Ours is the training loop's own
step. Each way runs in a process of its own, so that it has its own peak of memory. A batch has two
clips on a CPU and sixteen on a GPU. For a GPU the share of the card's 16-bit peak is given too: the
floating-point operations of the backbones' matrix products, three times those of a forward pass.
"""

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avsc_core.config import Config
from avsc_core.data.batches import Batch
from avsc_core.model import build_model
from avsc_core.model.losses import build_losses
from avsc_core.model.network import Outputs
from avsc_core.resolve import Override, resolve
from avsc_core.trainer.device import autocast
from avsc_core.trainer.step import build_training, train_step
from benchmarks.cross_attention import DEVICE, literal, read_status
from benchmarks.report import keep

CLIPS = 16 if DEVICE == "cuda" else 2
STEPS = 10 if DEVICE == "cuda" else 2
PEAK = {"NVIDIA H200": 989e12}  # dense bf16 operations a second

BF16 = {"training.precision": "bf16"}
CHANNELS_LAST = {"compute.channels_last": True}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, bf16": BF16,
    "ours": {},
    "ours, channels_last": CHANNELS_LAST,
    "ours, bf16, channels_last": BF16 | CHANNELS_LAST,
    "ours, micro-batches of 1": {"compute.micro_batch": 1},
    "ours, checkpointing": {"compute.checkpointing": True},
}
ON_GPU: dict[str, dict[str, Any]] = {
    "ours, bf16, channels_last, compiled": BF16 | CHANNELS_LAST | {"compute.compile": True},
}


class PlainNet(nn.Module):
    """The paper's model as one would put it together from the shelf."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import convnext_base
        from transformers import ASTConfig, ASTModel

        # The branches: backbone, embedding, classifier.
        self.audio = ASTModel(ASTConfig())
        self.audio_embed = nn.Linear(768, 1024)
        self.events = nn.Linear(1024, 527)
        self.visual = convnext_base()
        self.visual_embed = nn.Linear(1024, 1024)
        self.objects = nn.Linear(1024, 1000)

        # The fusion: both directions of Eq. 5, four weights of 8 heads of 64 each.
        self.attention = nn.Parameter(torch.randn(2, 4, 8, 64) / 8)
        self.layer = nn.Sequential(
            nn.Linear(1527, 1024),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(1024, 10),
        )

    def forward(self, log_mel: Tensor, frames: Tensor) -> Outputs:
        # The audio branch.
        audio = self.audio(log_mel).pooler_output  # (B,768)
        event_embedding = self.audio_embed(audio).relu()  # (B,D)
        event_logits = self.events(event_embedding).float()  # (B,E)

        # The visual branch, with the mean over frames.
        maps = self.visual.features(frames.flatten(0, 1))  # (B*F,1024,7,7)
        pooled = self.visual.avgpool(maps)  # (B*F,1024,1,1)
        by_frame = self.visual.classifier[:2](pooled)  # (B*F,1024)
        visual = by_frame.unflatten(0, frames.shape[:2]).mean(1)  # (B,1024)
        object_embedding = self.visual_embed(visual).relu()  # (B,D)
        object_logits = self.objects(object_embedding).float()  # (B,O)

        # The fusion: each modality asks the other.
        events = event_logits.sigmoid()
        objects = object_logits.sigmoid()
        event_tokens = events + literal(events, objects, *self.attention[0])  # (B,E)
        object_tokens = objects + literal(objects, events, *self.attention[1])  # (B,O)
        tokens = torch.cat([event_tokens, object_tokens], dim=1)  # (B,E+O)
        scene_logits = self.layer(tokens).float()  # (B,S)

        return Outputs(
            event_logits=event_logits,
            object_logits=object_logits,
            scene_logits=scene_logits,
            event_embedding=event_embedding,
            object_embedding=object_embedding,
        )

    @property
    def event_classifier_weight(self) -> Tensor:
        """Return the classifier's row of each event: (E,D)."""
        return self.events.weight

    @property
    def object_classifier_weight(self) -> Tensor:
        """Return the classifier's row of each object: (O,D)."""
        return self.objects.weight


def main() -> None:
    """Measure every way in a process of its own and keep the result."""
    # A process of its own for each way.
    ways = WAYS | ON_GPU if DEVICE == "cuda" else WAYS
    rows = []
    for name in ways:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            rows.append(pool.submit(measure, name).result())

    # The ratios to the plain recipe, and to what the GPU can do.
    plain = rows[0]["s a step"]
    peak = PEAK.get(torch.cuda.get_device_name()) if DEVICE == "cuda" else None
    for row in rows:
        row["times faster than plain"] = plain / row["s a step"]
        if peak:
            row["share of peak"] = count_operations() / row["s a step"] / peak

    keep("training_step", f"one step of preset paper, {CLIPS} clips", rows)


def measure(name: str) -> dict[str, Any]:
    """Measure one way in this process."""
    settings = (WAYS | ON_GPU)[name]
    overrides = [Override(key, value, name) for key, value in settings.items()]
    config = resolve("paper", overrides)

    torch.manual_seed(0)
    step = build_plain_step(config) if name.startswith("plain") else build_our_step(config)
    batch = make_batch(torch.device(DEVICE))

    # The first step warms up.
    time_call(step, batch)
    seconds = min(time_call(step, batch) for _ in range(STEPS))
    return {
        "form": name,
        "s a step": seconds,
        "clips a second": CLIPS / seconds,
        "GiB": read_peak_memory(),
    }


def build_our_step(config: Config) -> Callable[[Batch], object]:
    """Build a step of the training loop."""
    model = build_model(config).to(DEVICE).train()
    parts = build_training(config, model, steps_per_epoch=1)
    return partial(train_step, parts)


def build_plain_step(config: Config) -> Callable[[Batch], object]:
    """Build a step of the plain recipe."""
    model: Any = PlainNet().to(DEVICE).train()
    optimiser = torch.optim.AdamW(model.parameters(), config.training.learning_rate)
    losses = build_losses(config)

    def step(batch: Batch) -> None:
        with autocast(config, torch.device(DEVICE)):
            outputs = model(batch.log_mel, batch.frames)
        terms = losses(model, outputs, batch.events, batch.objects, batch.scenes, None)

        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(terms["total"])
        optimiser.step()

    return step


def make_batch(device: torch.device) -> Batch:
    """Make random clips with random labels, at the paper's sizes."""
    return Batch(
        log_mel=torch.randn(CLIPS, 1024, 128, device=device),
        frames=torch.randn(CLIPS, 10, 3, 224, 224, device=device),
        events=torch.randint(0, 2, (CLIPS, 527), device=device),
        objects=torch.randint(0, 2, (CLIPS, 1000), device=device),
        scenes=torch.randint(0, 10, (CLIPS,), device=device),
    )


def time_call(step: Callable[[Batch], object], batch: Batch) -> float:
    """Return the seconds of one training step."""
    start = time.perf_counter()
    step(batch)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def read_peak_memory() -> float:
    """Return the peak of memory in GiB, of the GPU or of this process."""
    if DEVICE == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return read_status("VmHWM") / 2**20


def count_operations() -> float:
    """Count the floating-point operations of a step's backbones, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    # On the meta device nothing is computed; only shapes are followed.
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = build_model(resolve("paper"))
        log_mel = torch.empty(CLIPS, 1024, 128)
        frames = torch.empty(CLIPS, 10, 3, 224, 224)
        model(log_mel, frames)
    return 3.0 * float(counter.get_total_flops())


if __name__ == "__main__":
    main()
