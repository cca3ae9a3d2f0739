"""Measures a compact network beside the full one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from compacting.fit import CONTENT, DEEPEST, STYLE, TAPS, Convolutions, network, relative_error
from compacting.tune import STYLE_WEIGHT
from nst.losses.distances.frobenius import gram_distance
from nst.losses.functional import moments, squared_error
from nst.losses.layers import content_distance
from nst.network.architecture import Weights, layer_names
from nst.network.features import Features


@torch.no_grad()
def layer_errors(
    teacher: Weights, convolutions: Convolutions, keep: list[list[int]], crops: Tensor
) -> dict[str, float]:
    """Returns for each layer |student - teacher|² / |teacher|² of its kept channels on crops, (N, 3, S, S)."""
    relus = [name for name in layer_names(teacher.blocks) if name.startswith("relu")][: len(keep)]
    full, small = network(teacher.convolutions, teacher.blocks, relus), network(convolutions, teacher.blocks, relus)
    exact, approximate = full(crops), small(crops)
    return {
        name: float(relative_error(approximate[name], exact[name][:, kept]).mean())
        for name, kept in zip(relus, keep, strict=True)
    }


class Transfer:
    """A plain style transfer in float32: Adam with betas (0.9, 0.99) from the photograph.

    Args:
        features: The network.
        content: The photograph, (1, 3, H, W).
        style: The painting, (1, 3, H', W').
    """

    def __init__(self, features: Features, content: Tensor, style: Tensor) -> None:
        self.features, self.picture = features, content.clone().requires_grad_()
        with torch.no_grad():
            self.content = features(content)[CONTENT]
            self.style = {name: moments(tap) for name, tap in features(style).items() if name in STYLE}
        self.optimizer = torch.optim.Adam([self.picture], lr=0.02, betas=(0.9, 0.99))

    def distances(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the relative distances in style (the layers' mean) and content, two scalars."""
        taps = self.features(picture)
        style = torch.stack([gram_distance(moments(taps[name]), self.style[name]) for name in STYLE]).mean()
        return style, content_distance(squared_error(taps[CONTENT], self.content), self.content.square().sum())

    def step(self) -> None:
        """Moves the pixels once."""
        style, content = self.distances(self.picture)
        self.optimizer.zero_grad()
        (content + STYLE_WEIGHT * style).backward()
        self.optimizer.step()
        with torch.no_grad():
            self.picture.clamp_(0, 1)


def judge(full: Features, small: Features, content: Tensor, style: Tensor, steps: int) -> dict[str, float]:
    """Runs both networks' style transfers for as many steps, and measures both results by the full network."""
    figures: dict[str, float] = {}
    for name, features in (("full", full), ("compact", small)):
        transfer = Transfer(features, content, style)
        for _ in range(steps):
            transfer.step()
        with torch.no_grad():
            distances = Transfer(full, content, style).distances(transfer.picture)
        figures[f"{name}_style"], figures[f"{name}_content"] = (float(distance) for distance in distances)
    total = {name: figures[f"{name}_content"] + STYLE_WEIGHT * figures[f"{name}_style"] for name in ("full", "compact")}
    return {**figures, "ratio": total["compact"] / total["full"]}


def seconds_per_step(networks: Sequence[Features], size: int, rounds: int) -> list[float]:
    """Returns the median time of a step of each network, in seconds; they take turns, so that noise hits all alike."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, size, size, generator=generator).to(memory_format=torch.channels_last)
    transfers = [Transfer(features, pictures[:1], pictures[1:]) for features in networks]
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(rounds + 1):
        for transfer, taken in zip(transfers, times, strict=True):
            start = time.perf_counter()
            transfer.step()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken[1:]) for taken in times]


def multiplications(convolutions: Convolutions, blocks: tuple[int, ...]) -> float:
    """Returns the multiplications per pixel of a pass up to DEEPEST."""
    names = layer_names(blocks)
    layers = [name for name in names[: names.index(DEEPEST)] if name.startswith("conv")]
    pairs = zip(layers, convolutions, strict=False)
    return sum(weight.numel() / 4.0 ** (int(name[4]) - 1) for name, (weight, _) in pairs)


def measure(
    teacher: Weights, convolutions: Convolutions, pairs: Sequence[tuple[Tensor, Tensor]], steps: int
) -> list[dict[str, float]]:
    """Judges the network on pairs of a photograph and a painting."""
    full = network(teacher.convolutions, teacher.blocks, TAPS)
    small = network(convolutions, teacher.blocks, TAPS)
    return [judge(full, small, content, style, steps) for content, style in pairs]
