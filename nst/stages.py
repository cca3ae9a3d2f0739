"""The network between two pools, forward and backward by hand.

The network is frozen, so a step needs the gradient of the activations alone: no graph, no index tensors, no copies in
float32. A convolution and its ReLU are one operation; the gradient of a convolution is a convolution with the flipped
weights; what a loss adds to a gradient is added in place. Pools and the masks of ReLUs only compare and choose: they
take activations for the integers of their bits, which a CPU compares two or three times as fast as bfloat16. The order
is the same where nothing is negative, and a negative zero, which some ReLUs make, comes below the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.features import Features, Padding, pad

Look = Callable[[str, Tensor], None]
"""Is shown a layer's name and its activations, (N, C, h, w)."""

Pull = Callable[[str, Tensor, Tensor | None], Tensor]
"""Takes a layer's name, its activations and the gradient so far, and returns it with that of the losses."""


class Stage:
    """The layers from one pool to the next.

    Args:
        features: The network.
        layers: Names of the layers, in their order.
        dtype: Type of the activations.
    """

    def __init__(self, features: Features, layers: Sequence[str], dtype: torch.dtype) -> None:
        self.features, self.dtype = features, dtype
        self.layers = list(layers)
        self.taps = features.layers
        self.convolutions = {
            name: _Convolution(
                getattr(features, f"{name}_weight"), getattr(features, f"{name}_bias"), features.padding, dtype
            )
            for name in self.layers
            if name.startswith("conv")
        }

        weights: list[Tensor] = [getattr(features, f"{name}_weight") for name in self.convolutions]
        self.channels = [weights[0].shape[1], *(len(weight) for weight in weights)]
        """Channels of the input and of each convolution."""
        self.kept = sum(self.channels[1:]) + (self.channels[-1] // 4 if self.pools else 0)
        """Values for each position of the input that the way back needs."""
        self.operations = sum(weight.numel() for weight in weights)
        """Multiplications for each position of the input, one way."""

    @property
    def pools(self) -> bool:
        """Whether the stage ends in a pool."""
        return self.layers[-1].startswith("pool")

    @property
    def takes_maxima(self) -> bool:
        """Whether its pool is `max_pool`, which knows no opposite border."""
        return self.features.pooling == "max" and self.features.padding != "circular"

    @property
    def halo(self) -> int:
        """Rows above and below that a row of the output depends on, rounded up to whole windows of the pool.

        Where pictures tile one more: an odd row is pooled with one of the opposite border.
        """
        rows = len(self.convolutions) + (self.features.padding == "circular")
        return rows + rows % 2

    def forward(self, x: Tensor, look: Look) -> dict[str, Tensor]:
        """Runs the stage.

        Args:
            x: Its input, (N, C, h, w), channels last in memory.
            look: Is shown each layer that a loss asked for.

        Returns:
            What `backward` needs and the output, by layer.
        """
        kept: dict[str, Tensor] = {}
        for name, following in zip(self.layers, [*self.layers[1:], ""], strict=True):
            if name.startswith("conv"):
                fused = following.startswith("relu") and name not in self.taps
                x = self.convolutions[name].forward(x, fused)
            elif name.startswith("relu"):
                x = x if self.layers[self.layers.index(name) - 1] not in kept else x.relu()
            else:
                x = max_pool(x) if self.takes_maxima else self.features.pool(x)
            if not name.startswith("conv") or name in self.taps or not following:
                kept[name] = x
            if name in self.taps:
                look(name, x)
        return kept

    def backward(self, x: Tensor, kept: dict[str, Tensor], gradient: Tensor | None, pull: Pull) -> Tensor:
        """Carries a gradient from the output to the input.

        Args:
            x: The input that `forward` was given.
            kept: What `forward` returned; it is emptied.
            gradient: That of the output, (N, C', h', w'); None for 0.
            pull: Adds the losses' gradient to that of each layer that they asked for.

        Returns:
            The gradient of the input, (N, C, h, w).
        """
        masked = False
        for i in reversed(range(len(self.layers))):
            name = self.layers[i]
            y = kept.pop(name, None)
            if name in self.taps:
                assert y is not None
                gradient = pull(name, y, gradient)
            assert gradient is not None  # the deepest layer is one that a loss asked for
            below = kept.get(self.layers[i - 1], x) if i else x
            if name.startswith("conv"):
                gradient = self.convolutions[name].backward(gradient, below)
            elif name.startswith("relu"):
                assert y is not None
                if not masked:
                    mask(gradient, y)
            elif self.takes_maxima:
                # The ReLU's zeros, on a quarter of the values: a window whose maximum is 0 passes nothing on.
                masked = self.layers[i - 1] not in self.taps
                if masked:
                    assert y is not None
                    mask(gradient, y)
                gradient = max_pool_gradient(gradient, below)
                continue
            else:
                gradient = pull_back(self.features.pool, below, gradient)
            masked = False
        assert gradient is not None
        return gradient


def stages(features: Features, dtype: torch.dtype) -> list[Stage]:
    """Cuts the network after each pool."""
    parts: list[list[str]] = [[]]
    for name in features.sequence:
        parts[-1].append(name)
        if name.startswith("pool"):
            parts.append([])
    return [Stage(features, part, dtype) for part in parts if part]


class _Convolution:
    """A 3×3 convolution and its gradient, with the weights laid out for both."""

    def __init__(self, weight: Tensor, bias: Tensor, padding: Padding, dtype: torch.dtype) -> None:
        self.padding: Padding = padding
        self.bias = bias.to(dtype)
        self.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self.flipped = self.weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        self.fused = weight.device.type == "cpu" and dtype != torch.float64 and torch.backends.mkldnn.is_available()
        if self.fused:
            ones = (1, 1)
            self.weight, self.flipped = (
                torch.ops.mkldnn._reorder_convolution_weight(x, ones, ones, ones, 1)
                for x in (self.weight, self.flipped)
            )

    def forward(self, x: Tensor, relu: bool) -> Tensor:
        margin = 1
        if self.padding != "zeros":
            x, margin = self._pad(x), 0
        return self._convolve(x, self.weight, self.bias, margin, relu)

    def backward(self, gradient: Tensor, x: Tensor) -> Tensor:
        if self.padding == "zeros":
            return self._convolve(gradient, self.flipped, None, 1, False)
        return pull_back(self._pad, x, self._convolve(gradient, self.flipped, None, 2, False))

    def _pad(self, x: Tensor) -> Tensor:
        return pad(x, (1, 1, 1, 1), self.padding)

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, margin: int, relu: bool) -> Tensor:
        if self.fused:
            ones, margins = (1, 1), (margin, margin)
            result: Tensor = torch.ops.mkldnn._convolution_pointwise(
                x, weight, bias, margins, ones, ones, 1, "relu" if relu else "none", [], ""
            )
            return result
        x = nnf.conv2d(x, weight, bias, padding=margin)
        return x.relu_() if relu else x


def mask(gradient: Tensor, y: Tensor) -> None:
    """Turns the gradient of a ReLU's output into that of its input, in place.

    Args:
        gradient: (N, C, h, w), changed.
        y: The output, of the same shape and type.
    """
    into = _bits(gradient)
    torch.ops.aten.threshold_backward.grad_input(into, _bits(y), 0, grad_input=into)


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
    torch.ops.aten.threshold_backward.grad_input(gradient, second, -1, grad_input=first)
    torch.sub(gradient, first, out=second)


def pull_back(function: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> Tensor:
    """Returns the gradient of a function's input from that of its output."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (result,) = torch.autograd.grad(function(x), x, gradient)
    return result.contiguous(memory_format=torch.channels_last)
