"""Style transfer in one call."""

from __future__ import annotations

import os
from typing import Any

import lightning.pytorch as pl
import torch
from PIL import Image

from nst import images, precision
from nst.color import Color
from nst.data import PictureData
from nst.module import StyleTransfer
from nst.quiet import quiet_libraries
from nst.types import InputPath, Pixels, WeightsSource
from nst.weights import Backbone

Source = str | os.PathLike[str] | Image.Image


def stylize(
    content: Source,
    style: Source,
    *,
    size: int = 512,
    steps: int | list[int] = 500,
    min_size: int | None = None,
    backbone: Backbone = "auto",
    weights: str | os.PathLike[str] = "imagenet",
    seed: int = 0,
    style_scale: float = 1.0,
    color: Color = "style",
    trainer: dict[str, Any] | None = None,
    **model: Any,
) -> Image.Image:
    """Turns a photograph and a painting into a picture.

    Args:
        content: The photograph, a path or a Pillow image.
        style: The painting, a path or a Pillow image.
        size: Longer side of the result, in pixels.
        steps: Optimiser steps at each level, or a list of them from the smallest level on.
        min_size: Longer side of the smallest level; by default there is one level, at `size`.
        backbone: `vgg19`, `vgg16`, `compact` or `auto`.
        weights: `imagenet`, `random:SEED` or a path.
        seed: Seed of the noise that a picture may start from; torch's generator is left as it was.
        style_scale: Longer side of the painting over that of the result.
        color: Whose colours the picture wears: `style`, `content`, `match` or `histogram`.
        trainer: Settings of the Lightning Trainer, such as `{"accelerator": "cpu", "precision": "32-true"}`.
        **model: Other settings of StyleTransfer, such as `style_weight=20` or `init="noise"`.

    Returns:
        The picture, with the photograph's transparency if it has any.

    Raises:
        InputError: If the pictures or settings cannot be used.
        RunError: If the run cannot go on.
    """
    data = PictureData(
        size=Pixels(size),
        min_size=None if min_size is None else Pixels(min_size),
        steps=steps,
        style_scale=style_scale,
        color=color,
        init=model.get("init", "content"),
        tile=model.get("padding") == "circular",
    )
    for role, source in (("content", content), ("style", style)):
        if isinstance(source, Image.Image):
            data.pictures[role] = images.decode(source, role)
        else:
            setattr(data, role, InputPath(os.fspath(source)))
    module = StyleTransfer(backbone, WeightsSource(os.fspath(weights)), **model)
    data.setup()
    settings: dict[str, Any] = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    settings |= {"max_epochs": len(data.levels), "reload_dataloaders_every_n_epochs": 1, **(trainer or {})}
    settings = {"precision": precision.fastest(settings.get("accelerator", "auto")), **settings}
    with quiet_libraries(), torch.random.fork_rng():
        torch.manual_seed(seed)
        pl.Trainer(enable_model_summary=False, **settings).fit(module, datamodule=data)
    return images.encode(data.finished(module.shown), data.alpha)
