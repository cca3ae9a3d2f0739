"""The pictures to start from, and how far a run goes from the photograph."""

from __future__ import annotations

import torch
from torch import Tensor

from nst.errors import InputError, check_choice
from nst.losses import functional as F
from nst.losses.objective import STRENGTH_POWER
from nst.machine.numerics import exact
from nst.scene.levels import Level, Start

GRAY, NOISE = 0.5, 0.05
"""Pixel value of the gray start, which is the mean of the noise start; and standard deviation of the noise."""


def others_weight(strength: float, content_weight: float) -> float:
    """Returns the factor of all weights but the content weight at a strength.

    It has the effect of a content weight that is divided by it, and is defined at a strength of 0.

    Raises:
        InputError: If the strength is out of range, or below 1 without a content term to lean on.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"Expected --model.strength to be in [0, 1], but got {strength}")
    if strength < 1 and content_weight == 0:
        raise InputError(
            f"Expected a content term that --model.strength {strength} can lean on, but got a weight of 0; "
            "raise --model.content_weight"
        )
    return strength**STRENGTH_POWER


def start(init: str, level: Level) -> Tensor:
    """Makes the picture to start from.

    Args:
        init: `content`, `noise`, `gray`, `style`, or the file that the level's own `init` was read from.
        level: The level to start at.

    Returns:
        (1, 3, H, W) in [0, 1]; noise is drawn from torch's global generator.

    Raises:
        InputError: If `init` is no such name and no file was read.
    """
    if init == "content":
        return level.content.clone()
    if init == "noise":
        # The noise is faint: a network hardly sees values that alternate from pixel to pixel, so noise stays for ever.
        return (GRAY + NOISE * torch.randn_like(level.content)).clamp(0, 1)
    if init == "gray":
        return torch.full_like(level.content, GRAY)
    if init == "style":
        colors = F.moments(level.style)
        noise = torch.einsum("ij,njhw->nihw", _root(colors.covariance, level.style), torch.randn_like(level.content))
        return (noise + colors.mean.view(1, 3, 1, 1)).clamp(0, 1)
    if level.init is None:
        check_choice("model.init", init, Start)
    assert level.init is not None  # the data module has read the file
    return level.init.clone()


def _root(covariance: Tensor, picture: Tensor) -> Tensor:
    """Returns L, (3, 3), where L Lᵀ is the covariance of a picture's colours plus a little on the diagonal."""
    little = 1e-6 * torch.eye(3)
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(covariance + little)
    if failed:  # one flat colour, or nearly: float32 sums leave a variance below 0
        root = torch.linalg.cholesky(F.moments(exact(picture)).covariance + little.double()).float()
    return root
