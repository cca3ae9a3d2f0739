"""The pictures to start from."""

from __future__ import annotations

import torch
from torch import Tensor

from nst import functional as F
from nst.levels import Level

GRAY, NOISE = 0.5, 0.05
"""Level of the starts from gray and from noise, and the noise's deviation around it."""


def start(init: str, level: Level) -> Tensor:
    """Makes the picture to start from.

    Args:
        init: `content`, `noise`, `gray`, `style`, or anything else for the level's own `init`.
        level: The level to start at.

    Returns:
        (1, 3, H, W) in [0, 1]; noise is drawn from torch's global generator.
    """
    if init == "content":
        return level.content.clone()
    if init == "noise":
        # Not of full contrast: a network hardly sees what alternates from pixel to pixel, so it would stay for ever.
        return (GRAY + NOISE * torch.randn_like(level.content)).clamp(0, 1)
    if init == "gray":
        return torch.full_like(level.content, GRAY)
    if init == "style":
        colors = F.moments(level.style)
        factor = torch.linalg.cholesky(colors.covariance + 1e-6 * torch.eye(3))
        noise = torch.einsum("ij,njhw->nihw", factor, torch.randn_like(level.content))
        return (noise + colors.mean.view(1, 3, 1, 1)).clamp(0, 1)
    assert level.init is not None  # the data module reads files
    return level.init.clone()
