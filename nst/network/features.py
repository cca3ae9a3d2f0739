"""The frozen network: a picture in, the activations of the layers that a loss asked for out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from nst.errors import InputError, check_choice, nearest
from nst.network.architecture import BLOCKS, Padding, Pooling, Weights, layer_names, pad

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
"""ImageNet's channel means and deviations, which the networks were trained with."""

AVERAGE_SCALE, L2_SCALE = 1.22, 0.59
"""Factors that keep the activations' root mean square where max pooling is replaced, measured on photographs through
VGG16 up to relu5_1. (style-transfer-pytorch has 2 and 0.78, with which they grow sevenfold and threefold.)"""


def check_layers(layers: Iterable[str], blocks: Iterable[int] = BLOCKS["vgg19"], network: str = "vgg19") -> None:
    """Raises an InputError with the nearest name if the network has no such layer."""
    names = layer_names(blocks)
    for layer in layers:
        if layer not in names:
            raise InputError(
                f"Expected a layer of {network} such as {names[1]}, but got {layer}{nearest(layer, names)}; "
                "change --model.content_layers or --model.style_layers"
            )


class Features(nn.Module):
    """The convolutional part of a VGG network, with taps.

    The weights are buffers outside the state dict: nothing trains them and no checkpoint holds them.

    Args:
        weights: The network's convolutions.
        layers: Names of the layers to return; nothing past the deepest of them is computed.
        pooling: `max`; `avg` and `l2` are smoother, and are scaled so that activations keep their size. (Gatys et al.
            use average pooling without that factor.)
        padding: What surrounds each layer's input: `zeros`, as in training; `replicate` or `reflect`, which leave no
            frame at the picture's border; `circular`, the opposite border, so that the picture tiles.

    Raises:
        InputError: If the network has no such layer, or there is no such pooling or padding.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, weights: Weights, layers: Iterable[str], pooling: Pooling = "max", padding: Padding = "zeros"
    ) -> None:
        super().__init__()
        check_choice("model.pooling", pooling, Pooling)
        check_choice("model.padding", padding, Padding)
        self.layers = set(layers)
        check_layers(self.layers, weights.blocks, weights.name)
        self.name = weights.name
        self.pooling: Pooling = pooling
        self.padding: Padding = padding
        names = layer_names(weights.blocks)
        self.sequence = names[: 1 + max((names.index(layer) for layer in self.layers), default=-1)]
        convolutions = (name for name in names if name.startswith("conv"))
        self.channels: dict[str, int] = {}
        for name, (weight, bias) in zip(convolutions, weights.convolutions, strict=True):
            if name in self.sequence:
                self.register_buffer(f"{name}_weight", weight.to(memory_format=torch.channels_last), persistent=False)
                self.register_buffer(f"{name}_bias", bias, persistent=False)
                self.channels[name] = weight.shape[0]
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)
        self.eval()

    @property
    def smallest(self) -> int:
        """The smallest side, in pixels, that a picture may have."""
        pools = sum(name.startswith("pool") for name in self.sequence)
        return (2 if self.padding == "reflect" else 1) << pools  # a reflection needs a second row

    def check_size(self, height: int, width: int, what: str) -> None:
        """Raises an InputError if a picture of that size is too small for the deepest layer."""
        if min(height, width) < self.smallest:
            raise InputError(
                f"Expected the {what} to be at least {self.smallest}×{self.smallest} pixels for layer "
                f"{self.sequence[-1]}, but it is {width}×{height} here; raise --data.size or drop the deepest layers "
                "from --model.content_layers and --model.style_layers"
            )

    def shape(self, layer: str, height: int, width: int) -> tuple[int, int, int]:
        """Returns (C, h, w) of a layer's activations for a picture of height × width."""
        above = self.sequence[: self.sequence.index(layer) + 1]
        pools = sum(name.startswith("pool") for name in above)
        channels = next(self.channels[name] for name in reversed(above) if name in self.channels)
        for _ in range(pools):
            height, width = self.pooled(height), self.pooled(width)
        return channels, height, width

    def pooled(self, side: int) -> int:
        """Returns what a pool makes of a height or a width: half, rounded down, or up where pictures tile."""
        return (side + 1) // 2 if self.padding == "circular" else side // 2

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Runs the network on a picture.

        Args:
            picture: (N, 3, H, W), RGB in [0, 1].

        Returns:
            The activations of the layers asked for, by name, each (N, C, h, w).
        """
        taps: dict[str, Tensor] = {}
        # channels last in memory: the layout that convolutions are fastest in, above all in bfloat16
        x = self.normalize(picture).contiguous(memory_format=torch.channels_last)
        for name in self.sequence:
            if name.startswith("conv"):
                x = self._convolve(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))
            elif name.startswith("relu"):
                # in place, unless that would turn a tapped convolution into its ReLU
                x = nnf.relu(x) if name.replace("relu", "conv") in taps else nnf.relu_(x)
            else:
                x = self.pool(x)
            if name in self.layers:
                taps[name] = x
        return taps

    def spread(self, weights: Tensor, layers: Iterable[str], erode: bool = False) -> dict[str, Tensor]:
        """Brings weights of a picture's pixels to layers, by the mean of the pixels that a position stands for.

        Args:
            weights: (1, 1, H, W), 0 or more.
            layers: Names of layers.
            erode: Whether a position takes the smallest weight among the positions that its receptive field covers; a
                layer for which nothing would remain is left as it is.

        Returns:
            (1, 1, h, w) by layer.
        """
        found: dict[str, Tensor] = {}
        field = 0.0  # how far the receptive field reaches beyond a position, in positions
        wanted = set(layers)
        for name in self.sequence:
            if name.startswith("conv"):
                field += 1
            elif name.startswith("pool"):
                weights, field = nnf.avg_pool2d(self._even(weights), 2), field / 2
            if name in wanted:
                reach = math.ceil(field) if erode else 0
                inner = -nnf.max_pool2d(-weights, 2 * reach + 1, stride=1, padding=reach)
                found[name] = inner if inner.any() else weights
        return found

    def normalize(self, picture: Tensor) -> Tensor:
        """Shifts and scales a picture, (N, 3, H, W), to what the network was trained with."""
        return (picture - self.mean) / self.deviation

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if self.padding == "zeros":
            return nnf.conv2d(x, weight, bias, padding=1)
        return nnf.conv2d(pad(x, (1, 1, 1, 1), self.padding), weight, bias)

    def pool(self, x: Tensor) -> Tensor:
        """Pools activations, (N, C, h, w), to halves of their sides (see `pooled`)."""
        x = self._even(x)
        if self.pooling == "max":
            return nnf.max_pool2d(x, 2)
        if self.pooling == "avg":
            return nnf.avg_pool2d(x, 2) * AVERAGE_SCALE
        assert self.pooling == "l2"
        # the root of the sum of squares; the small term gives it a gradient where all four are 0
        return (nnf.avg_pool2d(x.square(), 2) * 4 + 1e-12).sqrt() * L2_SCALE

    def _even(self, x: Tensor) -> Tensor:
        """Where pictures tile, an odd row or column is pooled with the first; else it is left out."""
        if self.padding != "circular":
            return x
        return pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), "circular")
