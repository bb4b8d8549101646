"""Cross-attention over tokens of a single number (Eq. 5), in linear time.

(B,Nq) queries and (B,Nk) keys that are the values too -> (B,Nq). The number of operations grows with Nq + Nk, where the
equation as it is written takes Nq x Nk x heads x d.
"""

import math
from collections.abc import Callable
from typing import Any

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
    g = w_v.w_o, and the output is one smooth function for each clip, f(q) = sum_h g_h sum_j softmax_j(c_h q k_j) k_j.
    It is computed at a few queries and interpolated to the rest, unless f is too steep for that to save anything.
    A bias of the queries, which the equation has not, makes it softmax_j((c_h q + e_h) k_j) with e = b_q.w_k / sqrt(d);
    one of the keys would cancel in the softmax.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    # A thousand terms in a sum and |c| up to 200 in an exponent cost float32 its digits; float64 is cheap at a few
    # queries, and no autocast touches it.
    query, key, w_q, w_k, w_v, w_o = (tensor.double() for tensor in (query, key, w_q, w_k, w_v, w_o))
    slope = (w_q * w_k).sum(1) / math.sqrt(w_q.shape[1])  # (heads,): c
    gain = (w_v * w_o).sum(1)  # (heads,): g
    grid = _grid(query, key, slope, torch.finfo(wide).eps, shifted=b_q is not None)
    points, carry = grid or (query, None)  # (B,M), (B,Nq,M)
    tilt = slope[:, None] * points[:, None]  # (B,heads,M)
    if b_q is not None:
        tilt = tilt + (b_q.double() * w_k).sum(1, True) / math.sqrt(w_q.shape[1])
    mean, variance = (each.view_as(tilt) for each in _attend(tilt.flatten(1), key))
    value = torch.einsum("h,bhm->bm", gain, mean)  # f at the points
    if carry is not None:
        rate = torch.einsum("h,bhm->bm", (gain * slope).detach(), variance)  # and its derivative
        value, rate = (carry @ torch.stack([value, rate], -1)).unbind(-1)  # (B,Nq)
        # Adds 0 with the derivative of f: how the gradient reaches a query, for the grid passes none.
        value = value + rate.detach() * (query - query.detach())
    return value.to(wide)


class Attend(torch.autograd.Function):
    """tilt (B,N), key (B,Nk) -> mean (B,N) and variance (B,N) of the keys under softmax_j(tilt_i key_j).

    The mean alone has a gradient. By hand, for it takes one array of (B,N,Nk) where autograd would take five.
    """

    @staticmethod
    def forward(ctx: Any, tilt: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        top = torch.maximum(tilt * key.amax(1, True), tilt * key.amin(1, True))  # (B,N): the largest exponent
        mass = (tilt[:, :, None] * key[:, None]).sub_(top[:, :, None]).exp_()  # (B,N,Nk)
        total, first, second = (torch.stack([torch.ones_like(key), key, key**2], 1) @ mass.mT).unbind(1)  # (B,N)
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
        plain, by_key = (torch.stack([share * (1 - tilt * mean), share * tilt], 1) @ mass).unbind(1)  # (B,Nk)
        return grad * variance, plain + by_key * key


_attend: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = Attend.apply


@torch.no_grad()
def _grid(query: Tensor, key: Tensor, slope: Tensor, error: float, shifted: bool) -> tuple[Tensor, Tensor] | None:
    """Where to compute f, (B,M), and the matrix (B,Nq,M) that carries values there to the queries; None: not worth it.

    Chebyshev interpolation gains a constant factor with every point, the larger the farther the poles of f are. They
    are zeros of sum_j exp(t k_j), t = c q complex, and for such a sum to vanish |Im t| must reach both pi / spread of
    the keys and |Re t| pi / ln(Nk - 1). So f is steep around q = 0 only and the smoother the larger |q|: in
    x = asinh(|c| spread q / pi) its poles stay `strip` away from the real axis, which says how many points it takes.
    With a bias each head is steep somewhere else (`shifted`), and x = |c| spread q / pi has to do.
    """
    bend = (slope.abs().max() * (key.amax(1, True) - key.amin(1, True)) / math.pi).clamp_min(1e-9)  # (B,1)
    place = bend * query if shifted else torch.asinh(bend * query)  # (B,Nq): x
    low, high = place.amin(1, True), place.amax(1, True)
    middle, radius = (low + high) / 2, ((high - low) / 2).clamp_min(1e-30)
    cone = math.pi / math.log(max(key.shape[1] - 1, 2))
    strip = 1.0 if shifted else math.asin((math.sqrt(1 + 4 * cone**2) - 1) / (2 * cone))
    count = float((-math.log(error) / torch.asinh(strip / radius)).max())  # the one time that a GPU is waited for
    if not count + 4 < query.shape[1] / 2:  # also when it is not a number
        return None
    m = 4 * (int(count) // 4 + 1)  # a few sizes only, or torch.compile would start again with every batch
    angle = math.pi * (torch.arange(m, dtype=query.dtype, device=query.device) + 0.5) / m  # (M,)
    points = middle + radius * angle.cos()  # (B,M): x
    points = (points if shifted else torch.sinh(points)) / bend
    gap = ((place - middle) / radius)[:, :, None] - angle.cos()  # (B,Nq,M)
    weight = angle.sin() * (-1) ** torch.arange(m, device=query.device)  # (M,)
    carry = weight / gap.masked_fill_(gap == 0, 1e-300)  # the barycentric formula; a query on a point takes its value
    return points, carry / carry.sum(-1, keepdim=True)
