"""The network's operations without autograd: convolutions, pools and the masks of ReLUs, forward and backward.

Each operation has a fast version, which uses operators that torch does not promise to keep, and a plain version with
the same result within rounding, which runs where the fast version is missing, fails or is not faster.

Pools and masks only compare and choose values: they read the bits of activations as integers, which a CPU compares two
or three times as fast as bfloat16. Integers and activations have the same order where no activation is negative; a
negative zero, which some ReLUs return, comes below the positive zero.
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
        padding: Padding of the input.
        dtype: Type of the activations.
    """

    def __init__(self, weight: Tensor, bias: Tensor, padding: Padding, dtype: torch.dtype) -> None:
        self.padding: Padding = padding
        self.bias = bias.to(dtype)
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.flipped = self.weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        self.packed = weight.device.type == "cpu" and packs(dtype)
        self.onednn = weight.device.type != "cpu" or has_onednn(dtype)
        if self.packed:
            self.weight, self.flipped = _pack(self.weight), _pack(self.flipped)

    def forward(self, x: Tensor, relu: bool) -> Tensor:
        """Convolves activations, (N, in, h, w), to (N, out, h, w), followed by the ReLU if `relu` is true."""
        margin = 1
        if self.padding != "zeros":
            x, margin = self._pad(x), 0
        return self._convolve(x, self.weight, self.bias, margin, relu)

    def backward(self, gradient: Tensor, x: Tensor) -> Tensor:
        """Returns the gradient of the input, given the gradient of the output and the input."""
        if self.padding == "zeros":
            return self._convolve(gradient, self.flipped, None, 1, False)
        return pull_back(self._pad, x, self._convolve(gradient, self.flipped, None, 2, False))

    def _pad(self, x: Tensor) -> Tensor:
        return pad(x, (1, 1, 1, 1), self.padding)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
        if self.packed:
            return _packed(x, weight, bias, margin, relu)
        with _plainly(self.onednn):
            x = nnf.conv2d(x, weight, bias, padding=margin).contiguous(memory_format=torch.channels_last)
        return x.relu_() if relu else x


def _pack(weight: Tensor) -> Tensor:
    """Lays weights out as oneDNN needs them for large inputs; for small inputs it may reorder them at each call."""
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, ONES, ONES, ONES, 1)
    return packed


def _packed(x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, (margin, margin), ONES, ONES, 1, "relu" if relu else "none", [], ""
    )
    return result


def _plainly(onednn: bool) -> AbstractContextManager[Any]:
    """Returns the context of a convolution, without oneDNN where `library` is false: torch then uses its own code."""
    return nullcontext() if onednn else torch.backends.mkldnn.flags(enabled=False)


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether weights of a type are packed for oneDNN: where oneDNN supports packing and packed weights are faster.

    On processors with AVX512 or matrix units one layout serves nearly all sizes. On other processors oneDNN needs
    another layout for small inputs and reorders the weights at every call: conv5_1 at 5×8 took 21 ms instead of 0.5 ms
    (AMD Zen 3, AVX2).
    """
    if not torch.backends.mkldnn.is_available() or dtype == torch.float64 or not _has_wide_vectors():
        return False
    weight = torch.zeros(16, 16, 3, 3, dtype=dtype).contiguous(memory_format=torch.channels_last)
    try:
        _packed(torch.zeros_like(weight), _pack(weight), None, 1, True)
    except (RuntimeError, AttributeError):  # the processor lacks this type, or torch no longer has the operator
        return False
    return True


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN can convolve in a type on this processor; where it cannot, torch may call it all the same."""
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
        x: The output of a ReLU, (N, C, h, w), channels last in memory.

    Returns:
        The maxima, (N, C, h // 2, w // 2), channels last in memory.
    """
    rows = _larger(*_pairs(x).unbind(3))
    return _larger(*rows.unflatten(1, (-1, 2)).unbind(2)).permute(0, 3, 1, 2)


def max_pool_gradient(gradient: Tensor, x: Tensor) -> Tensor:
    """Returns the gradient of the input of `max_pool`: a window's gradient goes to the window's first maximum.

    In a window of zeros the gradient may go to any value, as the ReLU before the pool lets none of it through.

    The maximum is found again from the input, first within rows and then between rows: as fast as following indices,
    which take more memory than the activations that they point into.

    Args:
        gradient: The gradient of the output, (N, C, h // 2, w // 2), channels last in memory.
        x: The input, (N, C, h, w), channels last in memory.
    """
    h, w = gradient.shape[2:]
    result = torch.empty_like(x, memory_format=torch.channels_last)
    result[:, :, 2 * h :] = 0  # an odd last row or column is in no window
    result[:, :, :, 2 * w :] = 0
    left, right = _pairs(x).unbind(3)  # each (N, 2h, w, C)
    top, bottom = _larger(left, right).unflatten(1, (h, 2)).unbind(2)  # each (N, h, w, C)
    wide = gradient.new_empty(len(x), h, 2, w, x.shape[1])
    _split(gradient.permute(0, 2, 3, 1), top, bottom, *wide.unbind(2))
    _split(wide.flatten(1, 2), left, right, *_pairs(result).unbind(3))
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
    return result.contiguous(memory_format=torch.channels_last)
