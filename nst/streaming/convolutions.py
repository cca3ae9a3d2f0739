"""The network's convolutions without autograd, forward and backward, each in the fastest way for its size.

- Winograd's method, in float32 and for many channels: it takes a quarter of the operations of a direct convolution, and
  half the time. For many positions NNPACK does it, a part of torch, whose tensors are planar in memory, one channel
  after another; for few positions matrix products do it here, as NNPACK transforms the weights at every call.
- oneDNN with weights that are packed for the size of the input: for each size oneDNN has a layout of its own, and
  weights in another one are reordered at every call, which may take ten times as long as a small convolution.
- torch's plain convolution, which runs everywhere.

NNPACK and packed weights are operators that torch does not promise to keep; where they are missing or fail, the plain
way has the same result within rounding. The choice is a rule of type, size and channels alone, as the same run is to
take the same ways again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.machine.numerics import plain
from nst.network.architecture import Padding, pad
from nst.streaming.kernels import pull_back

Method = Literal["auto", "direct", "winograd"]

FEWEST_CHANNELS, FEWEST_POSITIONS = 48, 1500
"""Channels of input and output, and positions, from which NNPACK is faster than oneDNN. Measured on AMD Zen 3 and 4:
1.0 times as fast for 32 to 48 channels, 1.3 to 2.7 for more; 0.5 times as fast at 16×16 positions, 1.0 at 25×36, 1.8
at 44×66."""

MANY_CHANNELS, FEW_POSITIONS = 96, 150
"""Channels of input and output, and positions, from which our own Winograd's method is faster than oneDNN. Measured on
AMD Zen 4: 2.0 times as fast for 512 channels at 32×32 positions, 1.3 at 16×16; for 224 channels 1.6 at 23×34 and 1.3 at
12×18; with 48 to 64 channels 0.6."""

KEPT = 2
"""Layouts of a convolution's weights that are kept: for the picture and for a coarse view of it."""

ONES = (1, 1)
"""Stride and dilation of all convolutions."""

LAST, PLANAR = torch.channels_last, torch.contiguous_format


class Way(ABC):
    """A way to convolve.

    Attributes:
        layout: The layout of activations in memory.
        sized: Whether weights are laid out for one size of the input.
    """

    layout: torch.memory_format
    sized = False

    @abstractmethod
    def lay_out(self, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """Lays out weights, (out, in, 3, 3), for inputs of a shape."""

    @abstractmethod
    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
        """Convolves an input, (N, in, h, w) in the way's layout, after padding with `margin` zeros, to the same."""


class Plain(Way):
    """torch's own convolution, without oneDNN where that lacks the type: torch may call it all the same."""

    def __init__(self, layout: torch.memory_format) -> None:
        self.layout = layout

    def lay_out(self, weight: Tensor, shape: Sequence[int]) -> Tensor:
        return weight.contiguous(memory_format=self.layout)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
        with _plainly(x.device.type != "cpu" or has_onednn(x.dtype)):
            x = nnf.conv2d(x, weight, bias, padding=margin).contiguous(memory_format=self.layout)
        return x.relu_() if relu else x


class Packed(Way):
    """oneDNN's convolution and ReLU in one, with weights packed for the size."""

    layout = LAST
    sized = True

    def lay_out(self, weight: Tensor, shape: Sequence[int]) -> Tensor:
        weight = weight.contiguous(memory_format=LAST)
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, ONES, ONES, ONES, 1, list(shape))
        return packed

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, (margin, margin), ONES, ONES, 1, "relu" if relu else "none", [], ""
        )
        return result


class Nnpack(Way):
    """NNPACK's convolution by Winograd's method, with tiles of 6×6 results."""

    layout = PLANAR

    def lay_out(self, weight: Tensor, shape: Sequence[int]) -> Tensor:
        return weight.contiguous()

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
        x = torch._nnpack_spatial_convolution(x, weight, bias, margin)
        return x.relu_() if relu else x


class Winograd(Way):
    """Winograd's method with tiles of 4×4 results, F(4×4, 3×3), and weights that are transformed once.

    The tiles d of the input, 6×6, and the weights g become Bᵀ d B and G g Gᵀ; their products at each of the 36 places,
    summed over channels, are matrix products, and become the results by Aᵀ m A. Written for vectors of 36 values, each
    transform is one matrix product too, with a Kronecker product.

    Source:
        Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308, section 4.3.
    """

    layout = LAST
    B = (
        *((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0)),
        *((0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1)),
    )
    G = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))  # times 24
    A = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))

    def __init__(self) -> None:
        tiles, weights, results = (torch.tensor(rows, dtype=torch.float64) for rows in (self.B, self.G, self.A))
        self.tiles, self.results = torch.kron(tiles, tiles).float(), torch.kron(results, results).float()
        self.weights = torch.kron(weights, weights) / 24**2

    def lay_out(self, weight: Tensor, shape: Sequence[int]) -> Tensor:
        """Returns the transformed weights, (36, in, out)."""
        flat = weight.double().permute(2, 3, 1, 0).flatten(0, 1).flatten(1)
        return (self.weights @ flat).view(36, weight.shape[1], len(weight)).float()

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
        count, channels = x.shape[:2]
        height, width = (side + 2 * margin - 2 for side in x.shape[2:])
        rows, columns = -(-height // 4), -(-width // 4)  # of tiles
        below, right = (4 * n + 2 - side - margin for n, side in zip((rows, columns), x.shape[2:], strict=True))
        padded = nnf.pad(x.permute(0, 2, 3, 1), (0, 0, margin, right, margin, below))
        picture, row, column, _ = padded.stride()
        shape = 6, 6, count, rows, columns, channels
        tiles = padded.as_strided(shape, (row, column, picture, 4 * row, 4 * column, 1)).reshape(36, -1)
        products = torch.bmm((self.tiles @ tiles).view(36, -1, channels), weight)
        results = (self.results @ products.flatten(1)).view(4, 4, count, rows, columns, -1)
        y = results.permute(2, 3, 0, 4, 1, 5).reshape(count, 4 * rows, 4 * columns, -1)[:, :height, :width]
        y = (y if bias is None else y + bias).contiguous()
        return (y.relu_() if relu else y).permute(0, 3, 1, 2)


PLAIN, PLAIN_PLANAR, PACKED, NNPACK, WINOGRAD = Plain(LAST), Plain(PLANAR), Packed(), Nnpack(), Winograd()


class Convolution:
    """A 3×3 convolution and its gradient.

    Args:
        weight: (out, in, 3, 3).
        bias: (out,).
        padding: Padding of the input.
        dtype: Type of the activations.
        method: `direct`; `winograd` or `auto` for Winograd's method where type, size and channels suit it.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, padding: Padding, dtype: torch.dtype, method: Method = "auto"
    ) -> None:
        self.padding: Padding = padding
        self.weight, self.bias, self.dtype = weight, bias.to(dtype), dtype
        on_cpu = weight.device.type == "cpu"
        self.winograd = on_cpu and dtype == torch.float32 and method != "direct" and has_winograd()
        self.packed = on_cpu and packs(dtype)
        self.fewest = min(weight.shape[:2])
        self._laid_out: dict[bool, dict[Any, Tensor]] = {False: {}, True: {}}

    def forward(self, x: Tensor, relu: bool, layout: torch.memory_format = LAST) -> Tensor:
        """Convolves activations, (N, in, h, w), to (N, out, h, w), followed by the ReLU if `relu` is true.

        Args:
            x: The activations, in the layout.
            relu: Whether the ReLU follows.
            layout: Layout of the activations in memory.
        """
        margin = 1
        if self.padding != "zeros":
            x, margin = self._pad(x), 0
        return self._convolve(x, False, margin, relu, layout)

    def backward(self, gradient: Tensor, x: Tensor, layout: torch.memory_format = LAST) -> Tensor:
        """Returns the gradient of the input, given the gradient of the output, in the layout, and the input."""
        if self.padding == "zeros":
            return self._convolve(gradient, True, 1, False, layout)
        padded = self._convolve(gradient, True, 2, False, layout)
        return pull_back(self._pad, x, padded).contiguous(memory_format=layout)

    def _pad(self, x: Tensor) -> Tensor:
        return pad(x, (1, 1, 1, 1), self.padding)

    def _convolve(self, x: Tensor, back: bool, margin: int, relu: bool, layout: torch.memory_format) -> Tensor:
        shape = (*x.shape[:2], *(side + 2 * margin - 2 for side in x.shape[2:]))  # with one zero of margin
        if layout is PLANAR:
            way: Way = NNPACK if self.fewest >= FEWEST_CHANNELS else PLAIN_PLANAR
        elif self.winograd and self.fewest >= MANY_CHANNELS and FEW_POSITIONS <= shape[2] * shape[3] < FEWEST_POSITIONS:
            way = WINOGRAD
        else:
            way = PACKED if self.packed else PLAIN
        return way.convolve(x, self._weight(way, back, shape), None if back else self.bias, margin, relu)

    def _weight(self, way: Way, back: bool, shape: Sequence[int]) -> Tensor:
        """Returns the weights in a way's layout; those of the gradient are flipped, with input and output exchanged."""
        key, known = (way, tuple(shape) if way.sized else ()), self._laid_out[back]
        if key not in known:
            weight = self.weight.to(self.dtype)
            known[key] = way.lay_out(weight.flip(2, 3).transpose(0, 1) if back else weight, shape)
            if len(known) > KEPT:
                del known[next(iter(known))]
        return known[key]


def layout_for(convolutions: Sequence[Convolution], height: int, width: int) -> torch.memory_format:
    """Returns the layout in which convolutions, one after another, are fastest on an input of height × width.

    Args:
        convolutions: The convolutions; one whose input is a picture has few channels and takes little time.
        height: Rows of the input.
        width: Columns of the input.
    """
    many = all(x.winograd and (x.fewest >= FEWEST_CHANNELS or x.weight.shape[1] == 3) for x in convolutions)
    return PLANAR if many and height * width >= FEWEST_POSITIONS else LAST


def _plainly(onednn: bool) -> AbstractContextManager[Any]:
    return nullcontext() if onednn else torch.backends.mkldnn.flags(enabled=False)


@cache
def packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs weights of a type and convolves with them on this processor."""
    if not torch.backends.mkldnn.is_available() or dtype == torch.float64:
        return False
    x = torch.zeros(1, 16, 3, 3, dtype=dtype).contiguous(memory_format=LAST)
    try:
        PACKED.convolve(x, PACKED.lay_out(x.new_zeros(16, 16, 3, 3), x.shape), None, 1, True)
    except (RuntimeError, AttributeError, TypeError):  # no such type on this processor, or no such operator in torch
        return False
    return True


@cache
def has_onednn(dtype: torch.dtype) -> bool:
    """Whether oneDNN can convolve in a type on this processor."""
    x = torch.zeros(1, 16, 8, 8, dtype=dtype).contiguous(memory_format=LAST)
    try:
        nnf.conv2d(x, x.new_zeros(16, 16, 3, 3), padding=1)
    except RuntimeError:
        return False
    return True


@cache
def has_winograd() -> bool:
    """Whether NNPACK runs on this processor and convolves as torch does; its threads are made as many as torch's.

    It is tried in float32 wherever it is asked: in a run of bfloat16, too, whose record names the way to convolve.
    """
    x, weight = (torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in (INPUT, WEIGHT))
    try:
        if not torch._nnpack_available():  # which also prepares it: without this call it fails
            return False
        torch.set_num_threads(torch.get_num_threads())
        with plain(x.device):
            found, wanted = NNPACK.convolve(x, weight, None, 1, False), nnf.conv2d(x, weight, padding=1)
    except (RuntimeError, AttributeError, TypeError):
        return False
    return bool((found - wanted).abs().max() < 1e-2)


INPUT, WEIGHT = (1, 16, 16, 16), (16, 16, 3, 3)
"""Shapes of the convolution that NNPACK is tried with."""
