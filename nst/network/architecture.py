"""The family of VGG networks: blocks of convolutions, the names of their layers, and the padding of activations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as nnf
from torch import Tensor

BLOCKS: dict[str, tuple[int, ...]] = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
"""Convolutions in each of the five blocks; a block ends in a pooling layer."""


WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the convolutions of each block, in the networks of Simonyan and Zisserman (arXiv:1409.1556)."""


@dataclass(frozen=True)
class Weights:
    """The convolutions of a network of the VGG family.

    Attributes:
        name: Name of the network and of the source of its weights, for people.
        blocks: Number of convolutions in each block.
        convolutions: For each convolution its weight, (out, in, 3, 3), and bias, (out,), float32.
    """

    name: str
    blocks: tuple[int, ...]
    convolutions: list[tuple[Tensor, Tensor]]


Pooling = Literal["max", "avg", "l2"]


Padding = Literal["zeros", "replicate", "reflect", "circular"]


def layer_names(blocks: Iterable[int]) -> list[str]:
    """Returns the names of all layers in their order: `conv1_1`, `relu1_1`, `conv1_2`, ..., `pool1`, `conv2_1`, ..."""
    names: list[str] = []
    for block, count in enumerate(blocks, 1):
        for i in range(1, count + 1):
            names += [f"conv{block}_{i}", f"relu{block}_{i}"]
        names.append(f"pool{block}")
    return names


def pad(x: Tensor, widths: tuple[int, int, int, int], padding: Padding) -> Tensor:
    """Pads activations, (N, C, h, w), left, right, above and below, and keeps their layout in memory."""
    layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
    return nnf.pad(x, widths, mode=padding).contiguous(memory_format=layout)  # a circular padding loses it
