"""The network's pools and the masks of its ReLUs without autograd, forward and backward, in any layout in memory.

Pools and masks only compare and choose values: they read the bits of activations as integers, which a CPU compares two
or three times as fast as bfloat16. Integers and activations have the same order where no activation is negative; a
negative zero, which some ReLUs return, comes below the positive zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def mask(gradient: Tensor, y: Tensor) -> None:
    """Turns the gradient of a ReLU's output into the gradient of the ReLU's input, in place.

    Args:
        gradient: The gradient, (N, C, h, w), changed.
        y: The ReLU's output, of the gradient's shape and type.
    """
    into = _bits(gradient)
    _gate(into, _bits(y), 0, into)


def max_pool(x: Tensor) -> Tensor:
    """Pools activations to the maxima of 2×2 windows; an odd last row or column is left out.

    Args:
        x: The output of a ReLU, (N, C, h, w).

    Returns:
        The maxima, (N, C, h // 2, w // 2), laid out as the input.
    """
    rows = _larger(*_pairs(x).unbind(3))
    return _larger(*rows.unflatten(1, (-1, 2)).unbind(2)).permute(0, 3, 1, 2)


def max_pool_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Returns the gradient of the input of `max_pool`: a window's gradient goes to the window's first maximum.

    In a window of zeros the gradient may go to any value, as the ReLU before the pool lets none of it through.

    The maximum is found again from the input, first within rows and then between rows: as fast as following indices,
    which take more memory than the activations that they point into.

    Args:
        gradient: The gradient of the output, (N, C, h // 2, w // 2), laid out as the input.
        x: The input, (N, C, h, w).
    """
    h, w = gradient.shape[2:]
    result = torch.empty_like(x)
    result[:, :, 2 * h :] = 0  # an odd last row or column is in no window
    result[:, :, :, 2 * w :] = 0
    left, right = _pairs(x).unbind(3)  # each (N, 2h, w, C)
    top, bottom = _larger(left, right).unflatten(1, (h, 2)).unbind(2)  # each (N, h, w, C)
    wide = torch.empty_like(left)  # each window's gradient in the row of the maximum
    _split(gradient.permute(0, 2, 3, 1), top, bottom, *wide.unflatten(1, (h, 2)).unbind(2))
    _split(wide, left, right, *_pairs(result).unbind(3))
    return result


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """Returns the elementwise maximum of activations."""
    return torch.maximum(_bits(a), _bits(b)).view(a.dtype)


def _bits(x: Tensor) -> Tensor:
    """Returns a view of floating-point numbers as the integers of their bits."""
    integers: Tensor = x.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.itemsize])
    return integers


def _pairs(x: Tensor) -> Tensor:
    """Views (N, C, h, w) as pairs of neighbours in a row, (N, 2 ⌊h/2⌋, ⌊w/2⌋, 2, C), without an odd row or column."""
    height, width = x.shape[2:]
    whole = x.permute(0, 2, 3, 1)[:, : height - height % 2, : width - width % 2]
    pairs: Tensor = whole.unflatten(2, (-1, 2))
    return pairs


def _split(gradient: Tensor, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> None:
    """Writes each value of a gradient into `first` where a is at least b, else into `second`, and 0 into the other."""
    torch.sub(a, b, out=second)  # not of bits: the bits of a negative zero are the lowest integer, and would overflow
    gradient, first, second = _bits(gradient), _bits(first), _bits(second)
    _gate(gradient, second, -1, first)
    torch.sub(gradient, first, out=second)


def _gate(gradient: Tensor, values: Tensor, threshold: int, out: Tensor) -> None:
    """Writes the gradient into `out` where `values` are above a threshold, and 0 elsewhere; all are integers."""
    if gates(gradient.device.type):
        torch.ops.aten.threshold_backward.grad_input(gradient, values, threshold, grad_input=out)
    else:
        torch.mul(gradient, values > threshold, out=out)


@cache
def gates(device: str) -> bool:
    """Whether a kind of device has the gradient of a threshold for integers with an output tensor of our own."""
    x = torch.zeros(1, dtype=torch.int16, device=device)
    try:
        torch.ops.aten.threshold_backward.grad_input(x, x, 0, grad_input=x)
    except (RuntimeError, AttributeError):
        return False
    return True


def pull_back(function: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> Tensor:
    """Returns the gradient of a function's input, given the gradient of its output, by autograd."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (result,) = torch.autograd.grad(function(x), x, gradient)
    return result
