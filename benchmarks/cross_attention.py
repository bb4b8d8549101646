"""How fast is `cross_attention` (Eq. 5), forward and backward, at the paper's sizes, on one core or a GPU?

Three ways to the same numbers: ours, Eq. 5 as it is written, and torch's scaled_dot_product_attention on d-wide
queries, keys and values. They take turns within a round, so that a busy machine slows all three alike; the least time
counts. Memory is the peak of one step over what was there before it, in a process of its own (read from /proc: Linux).
Error is the largest difference from float64: of the output over the sum of |g_h|, of the gradients over the largest of
each. |c| is the steepest head's; a new model has about 0.05.
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

CLIPS, HEADS, WIDTH = 16, 8, 64
SIZES = ((527, 1000), (1000, 527))  # queries, keys: events ask objects, objects ask events
SLOPES = (0.05, 12.0, 200.0)
ROUNDS = 3
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def literal(
    query: Tensor, key: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor
) -> Tensor:
    """Eq. 5 as it is written."""
    q, k, v = _wide(query, w_q), _wide(key, w_k), _wide(key, w_v)
    attended = (q @ k.mT / math.sqrt(w_q.shape[1])).softmax(-1) @ v  # (B,heads,Nq,d)
    return torch.einsum("bhqd,hd->bq", attended, w_o)


def sdpa(query: Tensor, key: Tensor, w_q: Tensor, w_k: Tensor, w_v: Tensor, w_o: Tensor) -> Tensor:
    """Eq. 5 with torch's fused attention."""
    attended = scaled_dot_product_attention(
        _wide(query, w_q), _wide(key, w_k), _wide(key, w_v)
    )  # (B,heads,Nq,d)
    return torch.einsum("bhqd,hd->bq", attended, w_o)


def problem(queries: int, keys: int, slope: float, clips: int = CLIPS) -> list[Tensor]:
    """Probabilities as a branch gives them, and weights whose steepest head has |c| = `slope`."""
    generator = torch.Generator().manual_seed(0)
    tokens = [
        torch.sigmoid(2 * torch.randn(clips, n, generator=generator) - 3) for n in (queries, keys)
    ]
    w_q, w_k, w_v, w_o = torch.randn(4, HEADS, WIDTH, generator=generator) / math.sqrt(WIDTH)
    steepest = (w_q * w_k).sum(1).abs().max() / math.sqrt(WIDTH)
    return [
        tensor.to(DEVICE).requires_grad_()
        for tensor in (*tokens, w_q * (slope / steepest), w_k, w_v, w_o)
    ]


def step(form: Callable[..., Tensor], tensors: list[Tensor]) -> list[Tensor]:
    """The output and the gradients of its sum of sines."""
    output = form(*tensors)
    gradients = torch.autograd.grad(output.sin().sum(), tensors)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return [output.detach(), *gradients]


def peak_memory(name: str, queries: int, keys: int, slope: float) -> float:
    """MiB that one step takes at its peak."""
    tensors = problem(queries, keys, slope)
    step(FORMS[name], problem(8, 8, slope))  # libraries load what they need
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(FORMS[name], tensors)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = status_field("VmRSS")
    step(FORMS[name], tensors)
    return (status_field("VmHWM") - before) / 2**10


def errors(name: str, queries: int, keys: int, slope: float) -> tuple[float, float]:
    """(of the output, of the gradients) against the literal form in float64, on two clips."""
    tensors = problem(queries, keys, slope, clips=2)
    exact = step(literal, [tensor.detach().double().requires_grad_() for tensor in tensors])
    found = step(FORMS[name], tensors)
    scales = [
        (tensors[4] * tensors[5]).sum(1).abs().sum().item(),
        *(float(tensor.abs().max()) for tensor in exact[1:]),
    ]
    off = [
        float((a - b).abs().max()) / scale for a, b, scale in zip(found, exact, scales, strict=True)
    ]
    return off[0], max(off[1:])


def _wide(tokens: Tensor, weight: Tensor) -> Tensor:
    return tokens[:, None, :, None] * weight[:, None]  # (B,heads,N,d)


def status_field(field: str) -> int:
    """A number of KiB out of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def main() -> None:
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for queries, keys in SIZES:
        for slope in SLOPES:
            tensors, times = problem(queries, keys, slope), dict.fromkeys(FORMS, math.inf)
            for name in list(FORMS) * (ROUNDS + 1):  # the first round warms up
                start = time.perf_counter()
                step(FORMS[name], tensors)
                times[name] = min(times[name], time.perf_counter() - start)
            for name, seconds in times.items():
                # A process of its own: the peak of resident memory never falls again in this one.
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                    memory = pool.submit(peak_memory, name, queries, keys, slope).result()
                output, gradients = errors(name, queries, keys, slope)
                row = {
                    "queries": queries,
                    "keys": keys,
                    "|c|": slope,
                    "form": name,
                    "ms": 1000 * seconds,
                }
                row |= {"times ours": seconds / times["ours"], "MiB": memory}
                rows.append(row | {"output error": output, "gradient error": gradients})
    keep("cross_attention", f"Eq. 5, {CLIPS} clips, {HEADS} heads of {WIDTH}, one step", rows)


FORMS: dict[str, Callable[..., Tensor]] = {
    "ours": cross_attention,
    "literal": literal,
    "sdpa": sdpa,
}

if __name__ == "__main__":
    main()
