"""The operations of a step by hand: convolutions, pools and the masks of ReLUs, forward and backward.

Each has a fast way, which stands on operators that torch does not promise, and a plain one with the same result within
rounding, which is taken where the fast one is missing, refuses or does not pay.

Pools and masks only compare and choose: they take activations for the integers of their bits, which a CPU compares two
or three times as fast as bfloat16. The order is the same where nothing is negative, and a negative zero, which some
ReLUs make, comes below the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.network.architecture import Padding, pad

ONES = (1, 1)
"""Stride and dilation of all convolutions."""


class Convolution:
    """A 3×3 convolution and its gradient, with the weights laid out for both.

    Args:
        weight: (out, in, 3, 3).
        bias: (out,).
        padding: What surrounds the input.
        dtype: Type of the activations.
    """

    def __init__(self, weight: Tensor, bias: Tensor, padding: Padding, dtype: torch.dtype) -> None:
        self.padding: Padding = padding
        self.bias = bias.to(dtype)
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.flipped = self.weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        self.packed = weight.device.type == "cpu" and packs(dtype)
        self.library = weight.device.type != "cpu" or has_onednn(dtype)
        if self.packed:
            self.weight, self.flipped = _pack(self.weight), _pack(self.flipped)

    def forward(self, x: Tensor, relu: bool) -> Tensor:
        """Convolves activations, (N, in, h, w), and takes the ReLU if that is wanted, to (N, out, h, w)."""
        margin = 1
        if self.padding != "zeros":
            x, margin = self._pad(x), 0
        return self._convolve(x, self.weight, self.bias, margin, relu)

    def backward(self, gradient: Tensor, x: Tensor) -> Tensor:
        """Returns the gradient of the input, given that of the output and the input."""
        if self.padding == "zeros":
            return self._convolve(gradient, self.flipped, None, 1, False)
        return pull_back(self._pad, x, self._convolve(gradient, self.flipped, None, 2, False))

    def _pad(self, x: Tensor) -> Tensor:
        return pad(x, (1, 1, 1, 1), self.padding)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
        if self.packed:
            return _packed(x, weight, bias, margin, relu)
        with _plainly(self.library):
            x = nnf.conv2d(x, weight, bias, padding=margin).contiguous(memory_format=torch.channels_last)
        return x.relu_() if relu else x


def _pack(weight: Tensor) -> Tensor:
    """Lays weights out as oneDNN wants them for large inputs; for small ones it may reorder them at each call."""
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, ONES, ONES, ONES, 1)
    return packed


def _packed(x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, (margin, margin), ONES, ONES, 1, "relu" if relu else "none", [], ""
    )
    return result


def _plainly(library: bool) -> AbstractContextManager[Any]:
    """Returns the context in which torch convolves by its own code, where oneDNN cannot."""
    return nullcontext() if library else torch.backends.mkldnn.flags(enabled=False)


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether weights of a type are packed for oneDNN: where it can and where that pays.

    On processors with AVX512 or matrix units one layout serves nearly all sizes. On others oneDNN wants another one for
    small inputs and reorders the weights at every call: conv5_1 at 5×8 took 21 ms instead of 0.5 (AMD Zen 3, AVX2).
    """
    if not torch.backends.mkldnn.is_available() or dtype == torch.float64 or not _has_wide_vectors():
        return False
    weight = torch.zeros(16, 16, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    try:
        _packed(torch.zeros_like(weight), _pack(weight), None, 1, True)
    except (RuntimeError, AttributeError):  # this type is not for this processor, or torch no longer has the operator
        return False
    return True


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN convolves in a type on this processor; where it cannot, torch may ask it all the same."""
    x = torch.zeros(1, 16, 8, 8, dtype=dtype).contiguous(memory_format=torch.channels_last)
    try:
        nnf.conv2d(x, x.new_zeros(16, 16, 3, 3), padding=1)
    except RuntimeError:
        return False
    return True


def _has_wide_vectors() -> bool:
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL"
    narrow = limit.upper().startswith(("SSE", "AVX2")) or limit.upper() == "AVX"
    return not narrow and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def mask(gradient: Tensor, y: Tensor) -> None:
    """Turns the gradient of a ReLU's output into that of its input, in place.

    Args:
        gradient: (N, C, h, w), changed.
        y: The output, of the same shape and type.
    """
    into = _bits(gradient)
    _gate(into, _bits(y), 0, into)


def max_pool(x: Tensor) -> Tensor:
    """Pools activations to the maxima of 2×2 windows; an odd last row or column is left out.

    Args:
        x: (N, C, h, w), the output of a ReLU, channels last in memory.

    Returns:
        (N, C, h // 2, w // 2), likewise.
    """
    rows = _larger(*_pairs(x).unbind(3))
    return _larger(*rows.unflatten(1, (-1, 2)).unbind(2)).permute(0, 3, 1, 2)


def max_pool_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Returns the gradient of the input of `max_pool`: it goes to the first maximum of each window.

    Where all of a window is 0 it goes to any of its values: the ReLU before lets none of it through.

    The maximum is found again from the input, in two halves: as fast as following indices, which take more memory than
    what they point into.

    Args:
        gradient: That of the output, (N, C, h // 2, w // 2), channels last in memory.
        x: The input, (N, C, h, w), likewise.
    """
    h, w = gradient.shape[2:]
    result = torch.empty_like(x, memory_format=torch.channels_last)
    result[:, :, 2 * h :] = 0  # what does not fill a window
    result[:, :, :, 2 * w :] = 0
    left, right = _pairs(x).unbind(3)  # each (N, 2h, w, C)
    top, bottom = _larger(left, right).unflatten(1, (h, 2)).unbind(2)  # each (N, h, w, C)
    wide = gradient.new_empty(len(x), h, 2, w, x.shape[1])
    _split(gradient.permute(0, 2, 3, 1), top, bottom, *wide.unbind(2))
    _split(wide.flatten(1, 2), left, right, *_pairs(result).unbind(3))
    return result


def _larger(a: Tensor, b: Tensor) -> Tensor:
    """Returns the larger of each two activations."""
    return torch.maximum(_bits(a), _bits(b)).view(a.dtype)


def _bits(x: Tensor) -> Tensor:
    """Returns a view of floating-point numbers as the integers of their bits."""
    integers: Tensor = x.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[x.itemsize])
    return integers


def _pairs(x: Tensor) -> Tensor:
    """Views (N, C, h, w) as neighbours in a row, (N, 2 ⌊h/2⌋, ⌊w/2⌋, 2, C); an odd rest is left out."""
    height, width = x.shape[2:]
    whole = x.permute(0, 2, 3, 1)[:, : height - height % 2, : width - width % 2]
    pairs: Tensor = whole.unflatten(2, (-1, 2))
    return pairs


def _split(gradient: Tensor, a: Tensor, b: Tensor, first: Tensor, second: Tensor) -> None:
    """Writes each value of a gradient into `first` where a is at least b, else into `second`, and 0 into the other."""
    torch.sub(a, b, out=second)  # not of bits: those of a negative zero are the lowest integer, and would overflow
    gradient, first, second = _bits(gradient), _bits(first), _bits(second)
    _gate(gradient, second, -1, first)
    torch.sub(gradient, first, out=second)


def _gate(gradient: Tensor, values: Tensor, threshold: int, out: Tensor) -> None:
    """Writes integers into `out` where the values, integers too, are above a threshold, and 0 elsewhere."""
    if gates(gradient.device.type):
        torch.ops.aten.threshold_backward.grad_input(gradient, values, threshold, grad_input=out)
    else:
        torch.mul(gradient, values > threshold, out=out)


@cache
def gates(device: str) -> bool:
    """Whether the gradient of a threshold is to be had for integers on a kind of device, written where we say."""
    x = torch.zeros(1, dtype=torch.int16, device=device)
    try:
        torch.ops.aten.threshold_backward.grad_input(x, x, 0, grad_input=x)
    except (RuntimeError, AttributeError):
        return False
    return True


def pull_back(function: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> Tensor:
    """Returns the gradient of a function's input from that of its output."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (result,) = torch.autograd.grad(function(x), x, gradient)
    return result.contiguous(memory_format=torch.channels_last)
