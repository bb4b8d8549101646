"""How fast is `cross_attention` (Eq. 5), forward and backward, at the paper's sizes?

Three forms compute the same numbers, on one core or a GPU: ours, Eq. 5 as it is written, and
torch's scaled_dot_product_attention on d-wide queries, keys and values. They take turns within a
round, so that a busy machine slows all three alike; the least time of each counts.

Memory is the peak of one step above what was used before it, in a process of its own (read from
/proc: Linux). Error is the largest difference from float64: that of the output is divided by the
sum of |g_h|, that of each gradient by the gradient's largest value. |c| is that of the steepest
head; a new model has about 0.05.
"""

import math
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from avsc_core.model.attention import cross_attention
from benchmarks.report import keep

CLIPS = 16
HEADS = 8
WIDTH = 64
SIZES = ((527, 1000), (1000, 527))  # queries, keys: events ask objects, objects ask events
SLOPES = (0.05, 12.0, 200.0)  # |c|
ROUNDS = 3
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# (query (B,Nq), key (B,Nk), w_q, w_k, w_v, w_o (heads,d) each) -> (B,Nq)
Form = Callable[..., Tensor]


def main() -> None:
    """Measure all forms at all sizes and keep the result."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for queries, keys in SIZES:
        for slope in SLOPES:
            rows += measure(queries, keys, slope)

    question = f"Eq. 5, {CLIPS} clips, {HEADS} heads of {WIDTH}, one step"
    keep("cross_attention", question, rows)


def measure(queries: int, keys: int, slope: float) -> list[dict[str, Any]]:
    """Measure time, memory and errors of every form at one size."""
    # The forms take turns; the first round warms up.
    tensors = make_problem(queries, keys, slope)
    times = dict.fromkeys(FORMS, math.inf)
    for name in list(FORMS) * (ROUNDS + 1):
        start = time.perf_counter()
        run_step(FORMS[name], tensors)
        seconds = time.perf_counter() - start
        times[name] = min(times[name], seconds)

    rows = []
    for name, seconds in times.items():
        # A process of its own: the peak of resident memory never falls again in this one.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            memory = pool.submit(measure_memory, name, queries, keys, slope).result()

        output_error, gradient_error = measure_errors(name, queries, keys, slope)
        row = {
            "queries": queries,
            "keys": keys,
            "|c|": slope,
            "form": name,
            "ms": 1000 * seconds,
            "times ours": seconds / times["ours"],
            "MiB": memory,
            "output error": output_error,
            "gradient error": gradient_error,
        }
        rows.append(row)
    return rows


def literal(
    query: Tensor,  # (B,Nq)
    key: Tensor,  # (B,Nk)
    w_q: Tensor,  # (heads,d), and so are the others
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
) -> Tensor:
    """Compute Eq. 5 as it is written: (B,Nq)."""
    q = _widen(query, w_q)  # (B,heads,Nq,d)
    k = _widen(key, w_k)  # (B,heads,Nk,d)
    v = _widen(key, w_v)  # (B,heads,Nk,d)

    scores = q @ k.mT / math.sqrt(w_q.shape[1])  # (B,heads,Nq,Nk)
    attended = scores.softmax(-1) @ v  # (B,heads,Nq,d)
    return torch.einsum("bhqd,hd->bq", attended, w_o)


def sdpa(
    query: Tensor,
    key: Tensor,
    w_q: Tensor,
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
) -> Tensor:
    """Compute Eq. 5 with torch's fused attention; shapes as in `literal`."""
    q = _widen(query, w_q)  # (B,heads,Nq,d)
    k = _widen(key, w_k)  # (B,heads,Nk,d)
    v = _widen(key, w_v)  # (B,heads,Nk,d)

    attended = scaled_dot_product_attention(q, k, v)  # (B,heads,Nq,d)
    return torch.einsum("bhqd,hd->bq", attended, w_o)


def make_problem(queries: int, keys: int, slope: float, clips: int = CLIPS) -> list[Tensor]:
    """Make probabilities as a branch gives them, and weights whose steepest |c| is `slope`."""
    generator = torch.Generator().manual_seed(0)

    # Logits around -3: most classes are absent from a clip.
    query = torch.sigmoid(2 * torch.randn(clips, queries, generator=generator) - 3)
    key = torch.sigmoid(2 * torch.randn(clips, keys, generator=generator) - 3)

    # |c| of a head grows in proportion to its query weight.
    weights = torch.randn(4, HEADS, WIDTH, generator=generator) / math.sqrt(WIDTH)
    w_q, w_k, w_v, w_o = weights
    slopes = (w_q * w_k).sum(1).abs() / math.sqrt(WIDTH)  # (heads,)
    w_q = w_q * (slope / slopes.max())

    tensors = (query, key, w_q, w_k, w_v, w_o)
    return [tensor.to(DEVICE).requires_grad_() for tensor in tensors]


def run_step(form: Form, tensors: list[Tensor]) -> list[Tensor]:
    """Return the output and the gradients of the sum of its sines."""
    output = form(*tensors)
    gradients = torch.autograd.grad(output.sin().sum(), tensors)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return [output.detach(), *gradients]


def measure_memory(name: str, queries: int, keys: int, slope: float) -> float:
    """Return the MiB that one step takes at its peak."""
    form = FORMS[name]
    tensors = make_problem(queries, keys, slope)

    # In a small step, libraries load what they need.
    run_step(form, make_problem(8, 8, slope))

    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run_step(form, tensors)
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    before = read_status("VmRSS")
    run_step(form, tensors)
    return (read_status("VmHWM") - before) / 2**10


def measure_errors(name: str, queries: int, keys: int, slope: float) -> tuple[float, float]:
    """Return the errors of output and gradients against Eq. 5 in float64, on two clips."""
    tensors = make_problem(queries, keys, slope, clips=2)
    doubles = [tensor.detach().double().requires_grad_() for tensor in tensors]
    exact = run_step(literal, doubles)
    found = run_step(FORMS[name], tensors)

    # The scales: of the output the sum of |g_h|, of each gradient its largest value.
    w_v, w_o = tensors[4:]
    heads = (w_v * w_o).sum(1)  # g_h, (heads,)
    scales = [heads.abs().sum().item()]
    scales += [float(gradient.abs().max()) for gradient in exact[1:]]

    errors = []
    for ours, true, scale in zip(found, exact, scales, strict=True):
        difference = float((ours - true).abs().max())
        errors.append(difference / scale)
    return errors[0], max(errors[1:])


def read_status(field: str) -> int:
    """Read a number of KiB from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ValueError(f"{field} is not in /proc/self/status")


def _widen(tokens: Tensor, weight: Tensor) -> Tensor:
    """Multiply scalar tokens (B,N) by a head's vector: (B,heads,N,d)."""
    return tokens[:, None, :, None] * weight[:, None]


FORMS: dict[str, Form] = {
    "ours": cross_attention,
    "literal": literal,
    "sdpa": sdpa,
}

if __name__ == "__main__":
    main()
