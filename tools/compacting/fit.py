"""Chooses the channels of each layer, and fits the layers one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as nnf

from nst.losses.functional import moments
from nst.network.architecture import Weights, layer_names
from nst.network.features import Features
from nst.optimise.module import CONTENT_LAYERS, STYLE_LAYERS

Convolutions = list[tuple[Tensor, Tensor]]
"""Weight, (out, in, 3, 3), and bias, (out,), of each convolution."""

STYLE, CONTENT = tuple(STYLE_LAYERS), next(iter(CONTENT_LAYERS))
DEEPEST = STYLE[-1]
"""Losses look at no layer behind it."""
TAPS = [*STYLE, CONTENT]


def network(convolutions: Convolutions, blocks: tuple[int, ...], layers: Iterable[str]) -> Features:
    """Builds a network with taps; the convolutions may end where the taps do."""
    rest = [(torch.empty(0), torch.empty(0))] * (sum(blocks) - len(convolutions))
    features = Features(Weights("compact", blocks, convolutions + rest), layers)
    return features.to(memory_format=torch.channels_last)


def activations(features: Features, pictures: Tensor) -> dict[str, Tensor]:
    """Returns the taps of (N, 3, S, S), computed in bfloat16, as float32."""
    with torch.autocast("cpu", torch.bfloat16):
        return {name: tap.float() for name, tap in features(pictures).items()}


def relative_error(approximate: Tensor, exact: Tensor) -> Tensor:
    """Returns |approximate - exact|² / |exact|² for each of N pictures, (N,)."""
    energy = exact.square().sum((1, 2, 3)).clamp_min(1e-12)
    return (approximate - exact).square().sum((1, 2, 3)) / energy


def choose_channels(gram: Tensor, metric: Tensor, count: int) -> list[int]:
    """Chooses channels greedily so that the best linear prediction of all channels from them is closest.

    Args:
        gram: Gram matrix of all channels, (C, C).
        metric: Positive semi-definite matrix that measures an error of prediction, (C, C).
        count: Number of channels to choose.

    Returns:
        The channels in ascending order.
    """
    rest, chosen = gram.clone(), list[int]()
    floor = 1e-4 * gram.diagonal().clamp_min(1e-9)
    for _ in range(count):
        power = rest.diagonal().clamp_min(1e-9)
        gain = (rest * (metric @ rest)).sum(0) / power
        gain[power < floor] = 0
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        rest = rest - torch.outer(rest[:, best], rest[best]) / power[best]
    return sorted(chosen)


def importance(gram: Tensor, following: Tensor | None, tapped: bool) -> Tensor:
    """Returns the metric of errors in a layer's channels, (C, C).

    Args:
        gram: Gram matrix of the layer, (C, C).
        following: Weight of the next convolution, (D, C, 3, 3), or None where there is none.
        tapped: Whether a loss looks at the layer.
    """
    own = torch.eye(len(gram))
    if following is None:
        return own
    total = following.sum((2, 3))
    # an error that is independent at each of the nine positions, and one that is the same at all of them
    ahead = torch.einsum("ockl,odkl->cd", following, following) + total.T @ total / 9
    ahead = ahead * (gram.trace() / (gram * ahead).sum().clamp_min(1e-12))
    return 0.7 * own + 0.3 * ahead if tapped else ahead


def least_squares(
    inputs: Sequence[Tensor], targets: Sequence[Tensor], ridge: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Fits one convolution.

    Args:
        inputs: Batches of what goes in, each (N, C, h, w).
        targets: Batches of what should come out, each (N, D, h, w).
        ridge: Penalty on the weights' squares, relative to the inputs' mean square.
        seed: Of the positions that take part, where there are more than enough.

    Returns:
        Weight, (D, C, 3, 3), and bias, (D,).
    """
    channels, outputs = inputs[0].shape[1], targets[0].shape[1]
    size = 9 * channels + 1
    normal, right = torch.zeros(size, size), torch.zeros(size, outputs)
    generator = torch.Generator().manual_seed(seed)
    enough = math.ceil(250_000 / sum(len(batch) for batch in inputs))
    for batch, target in zip(inputs, targets, strict=True):
        patches = nnf.unfold(batch, 3, padding=1).transpose(1, 2)
        places = torch.randperm(patches.shape[1], generator=generator)[:enough]
        x = nnf.pad(patches[:, places].reshape(-1, size - 1), (0, 1), value=1.0)
        normal += x.T @ x
        right += x.T @ target.flatten(2).transpose(1, 2)[:, places].reshape(-1, outputs)
    normal.diagonal()[:-1].add_(ridge * normal.diagonal()[:-1].mean() + 1e-8)
    solution = torch.linalg.solve(normal.double(), right.double()).float()
    return solution[:-1].T.reshape(outputs, channels, 3, 3).contiguous(), solution[-1].clone()


class Pruner:
    """Chooses and fits one layer after the other.

    Args:
        teacher: The full network.
        crops: (N, 3, S, S).
        seed: Of the positions to fit at.
    """

    def __init__(self, teacher: Weights, crops: Tensor, seed: int) -> None:
        self.teacher, self.seed = teacher, seed
        self.blocks = teacher.blocks
        self.names = [name for name in layer_names(teacher.blocks) if name.startswith("conv")]
        self.crops = torch.split(crops, 8)
        full = network(teacher.convolutions, teacher.blocks, self.names)
        with torch.no_grad():
            self.outputs = [full(batch) for batch in self.crops]

    @torch.no_grad()
    def extend(self, convolutions: Convolutions, keep: list[list[int]], widths: Sequence[int]) -> None:
        """Appends layers until there are `len(widths)` of them."""
        for position in range(len(convolutions), len(widths)):
            name = self.names[position]
            kept = self._choose(position, widths[position])
            weight, bias = self.teacher.convolutions[position]
            if position:
                ridge = 3e-4 if max(weight.shape[:2]) <= 256 else 3e-3
                inputs = self._inputs(convolutions, name)
                targets = [batch[name][:, kept] for batch in self.outputs]
                convolutions.append(least_squares(inputs, targets, ridge, self.seed + position))
            else:
                convolutions.append((weight[kept].clone(), bias[kept].clone()))
            keep.append(kept)

    def _choose(self, position: int, width: int) -> list[int]:
        name = self.names[position]
        gram = torch.stack([moments(nnf.relu(batch[name])).gram for batch in self.outputs]).mean(0)
        last = name.replace("conv", "relu") == DEEPEST or position + 1 == len(self.names)
        following = None if last else self.teacher.convolutions[position + 1][0]
        tapped = name.replace("conv", "relu") in TAPS
        return choose_channels(gram, importance(gram, following, tapped), width)

    def _inputs(self, convolutions: Convolutions, name: str) -> list[Tensor]:
        names = layer_names(self.blocks)
        before = names[names.index(name) - 1]
        part = network(convolutions, self.blocks, [before])
        return [part(batch)[before] for batch in self.crops]
