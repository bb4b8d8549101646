"""Cross-attention between tokens that are single numbers (Eq. 5), in linear time.

Eq. 5 lets Nq query tokens attend to Nk key tokens, which are the values too:

    head_h = softmax(Q w_q,h (K w_k,h)^T / sqrt(d)) K w_v,h          (Nq,d)
    output = concat(head_1, ..., head_H) w_o                         (Nq,)

A token is the probability of one class, a single number, so w_q,h, w_k,h, w_v,h and w_o,h are
vectors of d numbers. Their products collapse into two numbers for each head,

    c_h = w_q,h . w_k,h / sqrt(d)        the slope
    g_h = w_v,h . w_o,h                  the gain

and the output at a query token q is a smooth function f of that one number:

    f(q) = sum_h g_h F(c_h q)            F(t) = sum_j softmax_j(t k_j) k_j

F depends on the clip's keys alone, not on the head. F(t) is the mean of the keys under the weights
softmax_j(t k_j), and its derivative is their variance. We call t the tilt.

So we compute F at a few tilts, interpolate it to the tilts that a few queries ask for, which gives
f at these queries, and interpolate f to all queries. The number of operations grows with Nq + Nk;
Eq. 5 as it is written takes Nq x Nk x H x d. A function that is too steep for a few points is
computed everywhere instead.
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
    key: Tensor,  # (B,Nk)
    w_q: Tensor,  # (H,d)
    w_k: Tensor,  # (H,d)
    w_v: Tensor,  # (H,d)
    w_o: Tensor,  # (H,d)
    b_q: Tensor | None = None,  # (H,d)
) -> Tensor:
    """Compute Eq. 5 for tokens that are single numbers.

    Args:
        query: Query tokens of B clips. Shape: (B,Nq)
        key: Key tokens, which are the values too. Shape: (B,Nk)
        w_q, w_k, w_v: Projections of queries, keys and values, by head. Shape: (H,d)
        w_o: Output projection, cut into the part of each head. Shape: (H,d)
        b_q: Bias of the queries, which Eq. 5 does not have. It makes f a sum of
            g_h F(c_h q + e_h) with e_h = b_q,h . w_k,h / sqrt(d). A bias of the keys would cancel
            in the softmax. Shape: (H,d)

    Returns:
        The output at each query token, in float32 or wider, also under autocast. It can be
        differentiated once, not twice. Shape: (B,Nq)

    Example:
        >>> import torch
        >>> from avsc_core.model.fusion import cross_attention
        >>> events = torch.rand(8, 527)
        >>> objects = torch.rand(8, 1000)
        >>> w_q, w_k, w_v, w_o = torch.randn(4, 4, 64)  # 4 heads of width 64
        >>> cross_attention(events, objects, w_q, w_k, w_v, w_o).shape
        torch.Size([8, 527])
    """
    output_type = torch.promote_types(query.dtype, torch.float32)

    # A sum of a thousand terms, and an exponent with |c| up to 200, would cost float32 its digits.
    # float64 is cheap at a few queries, and autocast does not touch it.
    query = query.double()
    key = key.double()
    w_q, w_k, w_v, w_o = (weight.double() for weight in (w_q, w_k, w_v, w_o))

    # Softmax weights depend on differences of keys only. So the keys' mean is taken off here and
    # added to F at the end: the variance of keys far from 0 would lose its digits.
    centre = key.mean(1, True)  # (B,1)
    key = key - centre

    # The products of each head: c, e and g above.
    root = math.sqrt(w_q.shape[1])
    slope = (w_q * w_k).sum(1) / root  # (H,)
    shift = None if b_q is None else (b_q.double() * w_k).sum(1) / root  # (H,)
    gain = (w_v * w_o).sum(1)  # (H,)

    # f and its derivative at the points of a grid, or at every query.
    query_grid, tilt_grid = _choose_grids(
        query, key, slope, shift, precision=torch.finfo(output_type).eps
    )
    points = query if query_grid is None else query_grid.points()  # (B,M)
    tilt = slope[:, None] * points[:, None]  # (B,H,M)
    if shift is not None:
        tilt = tilt + shift[:, None]
    mean, variance = _compute_moments(tilt.flatten(1), key, tilt_grid)  # (B,HM)
    output = torch.einsum("h,bhm->bm", gain, mean.view_as(tilt)) + gain.sum() * centre  # (B,M)
    if query_grid is None:
        return output.to(output_type)

    # From the points to every query. Interpolation passes no gradient to the query, so a term that
    # is 0 and has the derivative of f adds it.
    steepness = (gain * slope).detach()  # (H,)
    derivative = torch.einsum("h,bhm->bm", steepness, variance.view_as(tilt))  # (B,M)
    known = torch.stack([output, derivative], -1)  # (B,M,2)
    output, derivative = query_grid.interpolate(known, query).unbind(-1)  # (B,Nq)
    output = output + derivative.detach() * (query - query.detach())
    return output.to(output_type)


def _compute_moments(
    tilt: Tensor,  # (B,N)
    key: Tensor,  # (B,Nk)
    grid: "Grid | None",
) -> tuple[Tensor, Tensor]:
    """Compute F and its derivative: mean and variance (B,N) of the keys under softmax_j(t k_j).

    They are computed at the points of `grid` and interpolated, or at every tilt without a grid.
    """
    if grid is None:
        return _moments(tilt, key)
    known = torch.stack(_moments(grid.points(), key), -1)  # (B,M,2)
    mean, variance = grid.interpolate(known, tilt).unbind(-1)  # (B,N)

    # As for the queries above: a term of 0 that has the derivative of F.
    mean = mean + variance.detach() * (tilt - tilt.detach())
    return mean, variance.detach()


class Moments(torch.autograd.Function):
    """Mean (B,N) and variance (B,N) of the keys (B,Nk) under softmax_j(tilt_i key_j).

    Only the mean has a gradient. It is written by hand, because it needs one array of (B,N,Nk)
    where autograd would keep five.
    """

    @staticmethod
    def forward(ctx: Any, tilt: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        # The largest exponent is subtracted from all, as in any softmax.
        largest = torch.maximum(tilt * key.amax(1, True), tilt * key.amin(1, True))  # (B,N)
        exponents = (tilt[:, :, None] * key[:, None]).sub_(largest[:, :, None])
        mass = exponents.exp_()  # (B,N,Nk)

        powers = torch.stack([torch.ones_like(key), key, key**2], 1)  # (B,3,Nk)
        total, first, second = (powers @ mass.mT).unbind(1)  # (B,N)
        mean = first / total
        variance = second / total - mean**2
        ctx.save_for_backward(tilt, key, mass, total, mean, variance)
        ctx.mark_non_differentiable(variance)
        return mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        tilt, key, mass, total, mean, variance = ctx.saved_tensors

        # d mean_i / d key_j = mass_ij / total_i (1 + tilt_i (key_j - mean_i)). Summed over i, these
        # are two products with `mass`, the second of them times key_j.
        share = grad / total  # (B,N)
        factors = torch.stack([share * (1 - tilt * mean), share * tilt], 1)  # (B,2,N)
        plain, times_key = (factors @ mass).unbind(1)  # (B,Nk)
        return grad * variance, plain + times_key * key


_moments: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = Moments.apply


class Grid(NamedTuple):
    """For each clip, the points at which to compute a function of one variable v.

    Chebyshev interpolation from these points gives the function everywhere between them. The points
    are spread in x = scale v, or in x = asinh(scale v) for a `curved` grid, which is denser around
    v = 0.
    """

    scale: Tensor  # (B,1)
    curved: bool
    low: Tensor  # (B,1), x of the smallest v
    high: Tensor  # (B,1), x of the largest v
    size: int  # M

    def points(self) -> Tensor:
        """Return the values of v (B,M) at which to compute the function."""
        x = self._centre + self._radius * self._angles.cos()
        return (torch.sinh(x) if self.curved else x) / self.scale

    def interpolate(
        self,
        known: Tensor,  # (B,M,C)
        values: Tensor,  # (B,N)
    ) -> Tensor:
        """Interpolate C functions, known at the points, to other values of v: (B,N,C).

        This is the barycentric formula. No gradient reaches `values`.
        """
        with torch.no_grad():
            x = self.scale * values  # (B,N)
            if self.curved:
                x = torch.asinh(x)
            position = (x - self._centre) / self._radius  # (B,N), from -1 to 1
            gap = position[:, :, None] - self._angles.cos()  # (B,N,M)

            # 1e-300 changes only a gap of 0, where a value is a point: that point then outweighs
            # all others.
            sign = 1 - 2 * (torch.arange(self.size, device=values.device) % 2)  # (M,)
            weight = (self._angles.sin() * sign) / gap.add_(1e-300)  # (B,N,M)
        ones = torch.ones_like(known[:, :, :1])
        sums = weight @ torch.cat([known, ones], 2)  # (B,N,C+1)
        return sums[:, :, :-1] / sums[:, :, -1:]

    @property
    def _centre(self) -> Tensor:
        return (self.low + self.high) / 2

    @property
    def _radius(self) -> Tensor:
        return ((self.high - self.low) / 2).clamp_min(1e-30)

    @property
    def _angles(self) -> Tensor:
        numbers = torch.arange(self.size, dtype=self.low.dtype, device=self.low.device)
        return math.pi * (numbers + 0.5) / self.size


@torch.no_grad()
def _choose_grids(
    query: Tensor,  # (B,Nq)
    key: Tensor,  # (B,Nk)
    slope: Tensor,  # (H,)
    shift: Tensor | None,  # (H,)
    precision: float,
) -> tuple[Grid | None, Grid | None]:
    """Choose a grid of queries for f, and a grid of tilts for F; None where it would save nothing.

    How many points are enough? With every further point, the error of Chebyshev interpolation
    shrinks by a constant factor, and the farther the poles of F are, the more it shrinks. The poles
    are the zeros of sum_j exp(t k_j) for complex t. For such a sum to vanish, |Im t| must reach
    both pi / (spread of the keys) and |Re t| pi / ln(Nk - 1). So F is steep around t = 0 only, and
    the smoother the larger |t| is. In x = asinh(spread t / pi), its poles are at least `strip` away
    from the real axis, which gives the number of points.

    For f, where t = c q, the steepest head decides. With a bias each head is steep somewhere else,
    so its grid is not curved: x = |c| spread q / pi.
    """
    spread = ((key.amax(1, True) - key.amin(1, True)) / math.pi).clamp_min(1e-9)  # (B,1)
    steepest = slope.abs().max()
    farthest = query.abs().amax(1, True)  # (B,1)
    cone = math.pi / math.log(max(key.shape[1] - 1, 2))
    strip = math.asin((math.sqrt(1 + 4 * cone**2) - 1) / (2 * cone))

    # The range of the queries in x.
    curved = shift is None
    scale = (spread * steepest).clamp_min(1e-9)  # (B,1)
    low = scale * query.amin(1, True)  # (B,1)
    high = scale * query.amax(1, True)  # (B,1)
    if curved:
        low = torch.asinh(low)
        high = torch.asinh(high)

    # The range of the tilts in x.
    largest_shift = 0.0 if shift is None else shift.abs().max()
    largest_tilt = steepest * farthest + largest_shift  # (B,1)
    span = torch.asinh(spread * largest_tilt)  # (B,1)

    # How many points each grid takes for `precision`.
    query_strip = strip if curved else 1.0
    distances = torch.stack([query_strip / ((high - low) / 2), strip / span])  # (2,B,1)
    sizes = -math.log(precision) / torch.asinh(distances).amin((1, 2))  # (2,)
    # `tolist` is the one place in this module where the program waits for a GPU.
    query_size, tilt_size = (_round_size(size) for size in sizes.tolist())

    # A grid is used where it has less than half as many points as there are values.
    query_grid = None
    if query_size < query.shape[1] / 2:
        query_grid = Grid(scale, curved, low, high, query_size)
    tilts = len(slope) * (query_grid.size if query_grid else query.shape[1])
    tilt_grid = None
    if tilt_size < tilts / 2:
        tilt_grid = Grid(spread, True, -span, span, tilt_size)
    return query_grid, tilt_grid


def _round_size(points: float) -> int:
    """Round a number of points up to a multiple of 4; return a huge number when it is not finite.

    torch.compile would compile again for every new size, so there are only a few of them.
    """
    return 4 * (int(points) // 4 + 1) if math.isfinite(points) else sys.maxsize
