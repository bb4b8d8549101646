"""Cross-attention over tokens of a single number (Eq. 5), in linear time.

(B,Nq) queries and (B,Nk) keys that are the values too -> (B,Nq). The number of operations grows with Nq + Nk, where the
equation as it is written takes Nq x Nk x heads x d.
"""

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def cross_attention(
    query: Tensor,  # (B,Nq)
    key: Tensor,  # (B,Nk), the values too
    w_q: Tensor,  # (heads,d), as the three below
    w_k: Tensor,
    w_v: Tensor,
    w_o: Tensor,
    b_q: Tensor | None = None,  # (heads,d)
) -> Tensor:
    """Eq. 5 with scalar tokens: (B,Nq), in float32 at least, whatever the autocast. First derivatives only.

    A token is one number, so a head's d-wide products collapse into two numbers, c = w_q.w_k / sqrt(d) and
    g = w_v.w_o, and a clip's output is one smooth function of the query, f(q) = sum_h g_h F(c_h q), where
    F(t) = sum_j softmax_j(t k_j) k_j is one function for all heads. F is computed at a few tilts t and carried to those
    that a few queries need, and f from these to all queries; whichever is too steep for that is computed everywhere.
    A bias of the queries, which the equation has not, makes it F(c_h q + e_h) with e = b_q.w_k / sqrt(d); one of the
    keys would cancel in the softmax.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    # A thousand terms in a sum and |c| up to 200 in an exponent cost float32 its digits; float64 is cheap at a few
    # queries, and no autocast touches it.
    query, key, w_q, w_k, w_v, w_o = (
        tensor.double() for tensor in (query, key, w_q, w_k, w_v, w_o)
    )
    slope = (w_q * w_k).sum(1) / math.sqrt(w_q.shape[1])  # (heads,): c
    shift = (
        None if b_q is None else (b_q.double() * w_k).sum(1) / math.sqrt(w_q.shape[1])
    )  # (heads,): e
    gain = (w_v * w_o).sum(1)  # (heads,): g
    queries, tilts = _grids(query, key, slope, shift, torch.finfo(wide).eps)
    points = query if queries is None else queries.at()  # (B,M)
    tilt = slope[:, None] * points[:, None]  # (B,heads,M)
    tilt = tilt if shift is None else tilt + shift[:, None]
    mean, variance = (each.view_as(tilt) for each in _moments(tilt.flatten(1), key, tilts))
    value = torch.einsum("h,bhm->bm", gain, mean)  # f at the points
    if queries is not None:
        rate = torch.einsum("h,bhm->bm", (gain * slope).detach(), variance)  # and its derivative
        value, rate = queries.spread(torch.stack([value, rate], -1), query).unbind(-1)  # (B,Nq)
        # Adds 0 with the derivative of f: how the gradient reaches a query, for the grid passes none.
        value = value + rate.detach() * (query - query.detach())
    return value.to(wide)


def _moments(tilt: Tensor, key: Tensor, grid: "Grid | None") -> tuple[Tensor, Tensor]:
    """F(t) and its derivative at every tilt (B,N): mean and variance of the keys under softmax_j(t k_j)."""
    if grid is None:
        return _attend(tilt, key)
    mean, variance = grid.spread(torch.stack(_attend(grid.at(), key), -1), tilt).unbind(-1)  # (B,N)
    return mean + variance.detach() * (
        tilt - tilt.detach()
    ), variance.detach()  # as for the queries above


class Attend(torch.autograd.Function):
    """tilt (B,N), key (B,Nk) -> mean (B,N) and variance (B,N) of the keys under softmax_j(tilt_i key_j).

    The mean alone has a gradient. By hand, for it takes one array of (B,N,Nk) where autograd would take five.
    """

    @staticmethod
    def forward(ctx: Any, tilt: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        top = torch.maximum(
            tilt * key.amax(1, True), tilt * key.amin(1, True)
        )  # (B,N): the largest exponent
        mass = (tilt[:, :, None] * key[:, None]).sub_(top[:, :, None]).exp_()  # (B,N,Nk)
        total, first, second = (
            torch.stack([torch.ones_like(key), key, key**2], 1) @ mass.mT
        ).unbind(1)  # (B,N)
        mean = first / total
        variance = second / total - mean**2
        ctx.save_for_backward(tilt, key, mass, total, mean, variance)
        ctx.mark_non_differentiable(variance)
        return mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        tilt, key, mass, total, mean, variance = ctx.saved_tensors
        # d mean_i / d key_j = mass_ij / total_i (1 + tilt_i (key_j - mean_i)): two sums over i, one of them times key_j
        share = grad / total  # (B,N)
        plain, by_key = (torch.stack([share * (1 - tilt * mean), share * tilt], 1) @ mass).unbind(
            1
        )  # (B,Nk)
        return grad * variance, plain + by_key * key


_attend: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = Attend.apply


class Grid(NamedTuple):
    """Where to compute a function of one variable, for each clip, to know it everywhere between `low` and `high`.

    Chebyshev interpolation in x = bend v, or in x = asinh(bend v) where v is `curved`.
    """

    bend: Tensor  # (B,1)
    curved: bool
    low: Tensor  # (B,1): x of the smallest v
    high: Tensor  # (B,1)
    nodes: int  # M

    def at(self) -> Tensor:
        """The points (B,M)."""
        x = (self.low + self.high) / 2 + self._radius * self._angle.cos()
        return (torch.sinh(x) if self.curved else x) / self.bend

    def spread(self, known: Tensor, values: Tensor) -> Tensor:
        """What is known at the points, (B,M,C), at other values (B,N) of the variable: (B,N,C).

        The barycentric formula; a value on a point takes that point's. No gradient reaches `values`.
        """
        with torch.no_grad():
            x = torch.asinh(self.bend * values) if self.curved else self.bend * values
            gap = ((x - (self.low + self.high) / 2) / self._radius)[
                :, :, None
            ] - self._angle.cos()  # (B,N,M)
            sign = 1 - 2 * (torch.arange(self.nodes, device=values.device) % 2)  # (M,)
            weight = (self._angle.sin() * sign) / gap.add_(
                1e-300
            )  # 0 becomes 1e-300, anything else stays
        sums = weight @ torch.cat([known, torch.ones_like(known[:, :, :1])], 2)  # (B,N,C+1)
        return sums[:, :, :-1] / sums[:, :, -1:]

    @property
    def _radius(self) -> Tensor:
        return ((self.high - self.low) / 2).clamp_min(1e-30)

    @property
    def _angle(self) -> Tensor:
        return (
            math.pi
            * (torch.arange(self.nodes, dtype=self.low.dtype, device=self.low.device) + 0.5)
            / self.nodes
        )


@torch.no_grad()
def _grids(
    query: Tensor, key: Tensor, slope: Tensor, shift: Tensor | None, error: float
) -> tuple[Grid | None, Grid | None]:
    """Grids for f over the queries and for F over the tilts that f asks for; None where a grid would save nothing.

    Chebyshev interpolation gains a constant factor with every point, the larger the farther the poles of F are. They
    are zeros of sum_j exp(t k_j), t complex, and for such a sum to vanish |Im t| must reach both pi / spread of the
    keys and |Re t| pi / ln(Nk - 1). So F is steep around t = 0 only and the smoother the larger |t|: in
    x = asinh(spread t / pi) its poles stay `strip` away from the real axis, which says how many points it takes. For f,
    with t = c q, the steepest head counts; with a bias each head is steep somewhere else, and x = |c| spread q / pi has
    to do.
    """
    spread = ((key.amax(1, True) - key.amin(1, True)) / math.pi).clamp_min(1e-9)  # (B,1)
    steepest, farthest = slope.abs().max(), query.abs().amax(1, True)
    cone = math.pi / math.log(max(key.shape[1] - 1, 2))
    strip = math.asin((math.sqrt(1 + 4 * cone**2) - 1) / (2 * cone))
    bend, curved = (spread * steepest).clamp_min(1e-9), shift is None
    low, high = (bend * each for each in (query.amin(1, True), query.amax(1, True)))
    if curved:
        low, high = torch.asinh(low), torch.asinh(high)
    largest = steepest * farthest + (0.0 if shift is None else shift.abs().max())  # (B,1): |t|
    span = torch.asinh(spread * largest)
    needed = torch.stack([(strip if curved else 1.0) / ((high - low) / 2), strip / span])  # (2,B,1)
    digits = -math.log(error) / torch.asinh(needed).amin((1, 2))
    few = [_count(each) for each in digits.tolist()]  # the one time that a GPU is waited for
    queries = Grid(bend, curved, low, high, few[0]) if few[0] < query.shape[1] / 2 else None
    asked = len(slope) * (queries.nodes if queries else query.shape[1])  # tilts
    return queries, Grid(spread, True, -span, span, few[1]) if few[1] < asked / 2 else None


def _count(points: float) -> int:
    """A few sizes only, or torch.compile would start again with every batch; too many where there is no number."""
    return 4 * (int(points) // 4 + 1) if math.isfinite(points) else sys.maxsize
