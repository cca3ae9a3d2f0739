"""Style transfer in one call."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from PIL import Image

from nst.machine import precision
from nst.machine.quiet import quiet_libraries
from nst.network.weights import Backbone
from nst.optimise.module import StyleTransfer
from nst.pictures import images
from nst.pictures.color import Color
from nst.run.flags import check
from nst.scene.data import PictureData
from nst.scene.styles import Region, Style
from nst.types import InputPath, Pixels, WeightsSource

Source = str | os.PathLike[str] | Image.Image


def stylize(
    content: Source,
    style: Source | Style | Sequence[Source | Style],
    *,
    size: int = 512,
    steps: int | list[int] = 500,
    min_size: int | None = None,
    backbone: Backbone = "auto",
    weights: str | os.PathLike[str] = "imagenet",
    seed: int = 0,
    style_scale: float = 1.0,
    color: Color = "style",
    regions: Mapping[str, str | os.PathLike[str] | Region] | None = None,
    trainer: dict[str, Any] | None = None,
    **model: Any,
) -> Image.Image:
    """Turns a photograph and a painting into a picture.

    Args:
        content: The photograph, a path or a Pillow image.
        style: The painting, a path or a Pillow image, or an `nst.Style`; or several of them.
        size: Longer side of the result, in pixels.
        steps: Optimiser steps at each level, or a list of them from the smallest level on.
        min_size: Longer side of the smallest level; by default there is one level, at `size`.
        backbone: `vgg19`, `vgg16`, `compact` or `auto`.
        weights: `imagenet`, `random:SEED` or a path.
        seed: Seed of the noise that a picture may start from; torch's generator is left as it was.
        style_scale: Longer side of the painting over that of the result.
        color: Whose colours the picture wears: `style`, `content`, `match` or `histogram`.
        regions: Parts of the photograph by name, each the path of a mask or an `nst.Region`.
        trainer: Settings of the Lightning Trainer, such as `{"accelerator": "cpu", "precision": "32-true"}`.
        **model: Other settings of StyleTransfer, such as `style_weight=20` or `init="noise"`.

    Returns:
        The picture, with the photograph's transparency if it has any.

    Raises:
        InputError: If the pictures or settings cannot be used.
        RunError: If the run cannot go on.
    """
    check(trainer or {})
    styles = [style] if isinstance(style, (str, os.PathLike, Image.Image, Style)) else list(style)
    data = PictureData(
        style=[x if isinstance(x, Style) else Style(_path(x)) for x in styles],
        regions={name: x if isinstance(x, Region) else _path(x) for name, x in (regions or {}).items()},
        size=Pixels(size),
        min_size=None if min_size is None else Pixels(min_size),
        steps=steps,
        style_scale=style_scale,
        color=color,
        init=model.get("init", "content"),
        tile=model.get("padding") == "circular",
    )
    data.content = _path(content)
    for role, source in (("content", content), *((data.role(i), x) for i, x in enumerate(styles))):
        if isinstance(source, Image.Image):
            data.pictures[role] = images.decode(source, role)
    module = StyleTransfer(backbone, WeightsSource(os.fspath(weights)), **model)
    data.setup()
    settings: dict[str, Any] = {"enable_progress_bar": False, "logger": False, "enable_checkpointing": False}
    settings |= {
        "devices": 1,
        "max_epochs": len(data.levels),
        "reload_dataloaders_every_n_epochs": 1,
        **(trainer or {}),
    }
    accelerator, asked = settings.get("accelerator", "auto"), settings.get("precision")
    settings["precision"] = precision.fastest(accelerator) if asked is None else precision.usable(asked, accelerator)
    with quiet_libraries(), torch.random.fork_rng():
        torch.manual_seed(seed)
        pl.Trainer(enable_model_summary=False, **settings).fit(module, datamodule=data)
    return images.encode(data.finished(module.shown), data.alpha)


def _path(source: Source) -> InputPath:
    """Returns a path; one that stands for nothing where the picture is at hand."""
    return InputPath("" if isinstance(source, Image.Image) else os.fspath(source))
