"""The frozen feature extractor: a picture in, the activations of the requested layers out."""

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
"""ImageNet's channel means and standard deviations, with which the networks were trained."""

AVERAGE_SCALE, L2_SCALE = 1.22, 0.59
"""Factors of average and L2 pooling that keep the root mean square of activations under max pooling, measured on
photographs through VGG16 up to relu5_1. (With style-transfer-pytorch's 2 and 0.78, activations grow sevenfold and
threefold.)"""


def check_layers(layers: Iterable[str], blocks: Iterable[int] = BLOCKS["vgg19"], network: str = "vgg19") -> None:
    """Raises an InputError with the nearest name if the network lacks one of the layers."""
    names = layer_names(blocks)
    for layer in layers:
        if layer not in names:
            raise InputError(
                f"Expected a layer of {network} such as {names[1]}, but got {layer}{nearest(layer, names)}; "
                "change --model.content_layers or --model.style_layers"
            )


class Features(nn.Module):
    """The convolutional part of a VGG network, which returns the activations of chosen layers.

    The weights are buffers outside the state dict: nothing trains them and no checkpoint holds them.

    Args:
        weights: The network's convolutions.
        layers: Names of the layers to return; no layer past the deepest one is computed.
        pooling: `max`; `avg` and `l2` are smoother, and are scaled so that activations keep their size. (Gatys et al.
            use average pooling without a factor.)
        padding: Padding of each convolution's input: `zeros`, as in training; `replicate` or `reflect`, which leave no
            frame at the picture's border; `circular`, the opposite border, so that the picture tiles.

    Raises:
        InputError: If the network lacks one of the layers, or the pooling or padding does not exist.
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
        """Raises an InputError if a picture of height × width is too small for the deepest layer."""
        if min(height, width) < self.smallest:
            raise InputError(
                f"Expected the {what} to be at least {self.smallest}×{self.smallest} pixels for layer "
                f"{self.sequence[-1]}, but it is {width}×{height} here; raise --data.size or drop the deepest layers "
                "from --model.content_layers and --model.style_layers"
            )

    def stride(self, layer: str) -> int:
        """Returns the pixels from one position of a layer's activations to the next."""
        above = self.sequence[: self.sequence.index(layer) + 1]
        return int(2 ** sum(name.startswith("pool") for name in above))

    def shape(self, layer: str, height: int, width: int) -> tuple[int, int, int]:
        """Returns (C, h, w) of a layer's activations for a picture of height × width."""
        above = self.sequence[: self.sequence.index(layer) + 1]
        pools = sum(name.startswith("pool") for name in above)
        channels = next(self.channels[name] for name in reversed(above) if name in self.channels)
        for _ in range(pools):
            height, width = self.pooled(height), self.pooled(width)
        return channels, height, width

    def pooled(self, side: int) -> int:
        """Returns a height or a width after pooling: half, rounded down, or rounded up with circular padding."""
        return (side + 1) // 2 if self.padding == "circular" else side // 2

    def forward(self, picture: Tensor) -> dict[str, Tensor]:
        """Runs the network on a picture.

        Args:
            picture: (N, 3, H, W), RGB in [0, 1].

        Returns:
            The activations of the requested layers by name, each (N, C, h, w).
        """
        taps: dict[str, Tensor] = {}
        # channels last in memory: the fastest layout for convolutions, above all in bfloat16
        x = self.normalize(picture).contiguous(memory_format=torch.channels_last)
        for name in self.sequence:
            if name.startswith("conv"):
                x = self._convolve(x, getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias"))
            elif name.startswith("relu"):
                # in place, unless the ReLU would overwrite the activations of a requested convolution
                x = nnf.relu(x) if name.replace("relu", "conv") in taps else nnf.relu_(x)
            else:
                x = self.pool(x)
            if name in self.layers:
                taps[name] = x
        return taps

    def spread(self, weights: Tensor, layers: Iterable[str], erode: bool = False) -> dict[str, Tensor]:
        """Downsamples the weights of a picture's pixels to layers: a position gets the mean weight of its pixels.

        Args:
            weights: The weights of the pixels, (1, 1, H, W), 0 or more.
            layers: Names of layers.
            erode: Whether a position takes the smallest weight among the positions that its receptive field covers; a
                layer whose weights would all become 0 is not eroded.

        Returns:
            The weights by layer, each (1, 1, h, w).
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
        """Normalises a picture, (N, 3, H, W), by the mean and standard deviation of the training data."""
        return (picture - self.mean) / self.deviation

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if self.padding == "zeros":
            return nnf.conv2d(x, weight, bias, padding=1)
        return nnf.conv2d(pad(x, (1, 1, 1, 1), self.padding), weight, bias)

    def pool(self, x: Tensor) -> Tensor:
        """Pools activations, (N, C, h, w), to half their height and width (see `pooled`)."""
        x = self._even(x)
        if self.pooling == "max":
            return nnf.max_pool2d(x, 2)
        if self.pooling == "avg":
            return nnf.avg_pool2d(x, 2) * AVERAGE_SCALE
        assert self.pooling == "l2"
        # the root of the sum of squares; the small term gives the root a gradient where all four values are 0
        return (nnf.avg_pool2d(x.square(), 2) * 4 + 1e-12).sqrt() * L2_SCALE

    def _even(self, x: Tensor) -> Tensor:
        """With circular padding, appends the first row or column to an odd side; else pooling drops the odd one."""
        if self.padding != "circular":
            return x
        return pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2), "circular")
