"""A stage, the layers of the network up to and with a pool, forward and backward without autograd.

The network is frozen, so a step needs the gradient of the activations alone: no graph, no index tensors, no copies in
float32. A convolution and its ReLU are one operation; the gradient of a convolution is a convolution with the flipped
weights; losses add their gradients in place. `convolutions.py` and `kernels.py` have the operations. All activations of
a stage have one layout in memory, that in which its convolutions are fastest at their size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import torch
from torch import Tensor

from nst.network.features import Features
from nst.streaming.convolutions import Convolution, Method, layout_for
from nst.streaming.kernels import mask, max_pool, max_pool_gradient, pull_back

Visit = Callable[[str, Tensor], None]
"""Callback that takes a layer's name and its activations, (N, C, h, w)."""

Pull = Callable[[str, Tensor, Tensor | None], Tensor]
"""Callback that takes a layer's name, activations and gradient so far; returns the sum with the losses' gradient."""


class Stage:
    """The layers from one pool to the next.

    Args:
        features: The feature extractor.
        layers: Names of the stage's layers, in the network's order.
        dtype: Type of the activations.
        method: How convolutions are computed (see `Convolution`).
    """

    def __init__(self, features: Features, layers: Sequence[str], dtype: torch.dtype, method: Method = "auto") -> None:
        self.features, self.dtype = features, dtype
        self.layers = list(layers)
        self.taps = features.layers
        self.convolutions = {
            name: Convolution(
                getattr(features, f"{name}_weight"), getattr(features, f"{name}_bias"), features.padding, dtype, method
            )
            for name in self.layers
            if name.startswith("conv")
        }

        weights: list[Tensor] = [getattr(features, f"{name}_weight") for name in self.convolutions]
        self.channels = [weights[0].shape[1], *(len(weight) for weight in weights)]
        """Channels of the input and of each convolution."""
        self.kept_values = sum(self.channels[1:]) + (self.channels[-1] // 4 if self.pools else 0)
        """Values that the backward pass needs, for each position of the input."""
        self.operations = sum(weight.numel() for weight in weights)
        """Multiplications of the forward pass, for each position of the input."""

    @property
    def pools(self) -> bool:
        """Whether the stage ends in a pool."""
        return self.layers[-1].startswith("pool")

    @property
    def takes_maxima(self) -> bool:
        """Whether the stage's pool is `max_pool`, which does not wrap around to the opposite border."""
        return self.features.pooling == "max" and self.features.padding != "circular"

    @property
    def halo(self) -> int:
        """Rows of input above and below that a row of the output depends on, rounded up to whole windows of the pool.

        Where pictures tile, one row more: an odd row is pooled with a row of the opposite border.
        """
        rows = len(self.convolutions) + (self.features.padding == "circular")
        return rows + rows % 2

    def forward(self, x: Tensor, visit: Visit) -> dict[str, Tensor]:
        """Runs the stage.

        Args:
            x: The stage's input, (N, C, h, w).
            visit: Called for each layer that a loss asked for.

        Returns:
            The activations that `backward` needs and the output, by layer.
        """
        activations: dict[str, Tensor] = {}
        layout = self._layout(x)
        x = x.contiguous(memory_format=layout)
        for name, following in zip(self.layers, [*self.layers[1:], ""], strict=True):
            if name.startswith("conv"):
                fused = following.startswith("relu") and name not in self.taps
                x = self.convolutions[name].forward(x, fused, layout)
            elif name.startswith("relu"):
                x = x if self.layers[self.layers.index(name) - 1] not in activations else x.relu()
            else:
                x = max_pool(x) if self.takes_maxima else self.features.pool(x)
            if not name.startswith("conv") or name in self.taps or not following:
                activations[name] = x
            if name in self.taps:
                visit(name, x)
        return activations

    def backward(
        self, x: Tensor, activations: dict[str, Tensor], gradient: Tensor | None, pull: Pull, pulled: Set[str]
    ) -> Tensor:
        """Carries a gradient from the output to the input.

        Args:
            x: The input that `forward` was given.
            activations: What `forward` returned; it is emptied.
            gradient: The gradient of the output, (N, C', h', w'); None for 0.
            pull: Adds the losses' gradient to the gradient of each layer that has a loss.
            pulled: Names of the layers that have a loss; if the gradient is None, one of the stage's layers has.

        Returns:
            The gradient of the input, (N, C, h, w).
        """
        masked, layout = False, self._layout(x)
        gradient = None if gradient is None else gradient.contiguous(memory_format=layout)
        for i in reversed(range(len(self.layers))):
            name = self.layers[i]
            y = activations.pop(name, None)
            if name in pulled:
                assert y is not None
                gradient = pull(name, y, gradient)
            if gradient is None:  # deeper than all losses
                continue
            below = activations.get(self.layers[i - 1], x) if i else x
            if name.startswith("conv"):
                gradient = self.convolutions[name].backward(gradient, below, layout)
            elif name.startswith("relu"):
                assert y is not None
                if not masked:
                    mask(gradient, y)
            elif self.takes_maxima:
                # The ReLU's mask, on a quarter of the values: a window whose maximum is 0 has no gradient.
                masked = self.layers[i - 1] not in pulled
                if masked:
                    assert y is not None
                    mask(gradient, y)
                gradient = max_pool_gradient(gradient, below)
                continue
            else:
                gradient = pull_back(self.features.pool, below, gradient).contiguous(memory_format=layout)
            masked = False
        assert gradient is not None
        return gradient

    def _layout(self, x: Tensor) -> torch.memory_format:
        height, width = x.shape[2:]
        return layout_for(list(self.convolutions.values()), height, width)


def stages(features: Features, dtype: torch.dtype, method: Method = "auto") -> list[Stage]:
    """Cuts the network after each pool."""
    parts: list[list[str]] = [[]]
    for name in features.sequence:
        parts[-1].append(name)
        if name.startswith("pool"):
            parts.append([])
    return [Stage(features, part, dtype, method) for part in parts if part]


def sides(stages: Sequence[Stage], side: int) -> list[int]:
    """Returns the height, or the width, of each stage's input, given the picture's height or width."""
    found = [side]
    for stage in stages[1:]:
        found.append(stage.features.pooled(found[-1]))
    return found
