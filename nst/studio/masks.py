"""Regions that are painted on the photograph with a brush, as the map of colours that `data.regions` takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nst.errors import InputError
from nst.pictures import images
from nst.pictures.files import write_atomically
from nst.pictures.geometry import fit
from nst.studio.asked import Brushed

PALETTE = {"red": "#ff0000", "lime": "#00ff00", "blue": "#0000ff", "yellow": "#ffff00"}
"""The brush's colours by the regions' names, which are the colours' own names: corners of the colour cube, so that no
stroke is taken for another."""

OPAQUE = 128
"""Opacity from which a pixel of a stroke counts."""

SIDE = 1024
"""Longer side, in pixels, of the copy of the photograph that is painted on."""


def copy_of(path: Path, max_pixels: int) -> NDArray[np.uint8]:
    """Returns a copy of a photograph to paint on, (H, W, 3)."""
    picture = images.load(path, "data.content", max_pixels)
    small = picture.resized(*fit(picture.height, picture.width, min(SIDE, max(picture.height, picture.width))))
    return np.asarray(images.encode(small.rgb))


def painted(layers: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    """Returns the map of colours, (H, W, 3), black where nothing was painted, or None if nothing was.

    Args:
        layers: The strokes, (H, W, 4), from the lowest layer to the highest.
    """
    strokes = [layer for layer in layers if layer.ndim == 3 and (layer[..., 3] >= OPAQUE).any()]
    if not strokes:
        return None
    found = np.zeros((*strokes[0].shape[:2], 3), np.uint8)
    for layer in strokes:
        if layer.shape[:2] != found.shape[:2]:
            raise InputError("Expected strokes on one photograph, but got layers of several sizes; paint them again")
        inside = layer[..., 3] >= OPAQUE
        found[inside] = _nearest(layer[inside][:, :3])
    return found


def names(colors: NDArray[np.uint8]) -> list[str]:
    """Returns the names of the regions that a map has."""
    return [name for name, rgb in zip(PALETTE, _palette(), strict=True) if (colors == rgb).all(-1).any()]


def save(colors: NDArray[np.uint8], path: Path) -> None:
    """Writes a map as PNG."""
    write_atomically(path, lambda file: Image.fromarray(colors).save(file, "PNG"))


def load(path: Path, height: int, width: int, max_pixels: int) -> NDArray[np.uint8]:
    """Reads a map as strokes, (height, width, 4), on a photograph of that size.

    Raises:
        InputError: If it is no picture, or nothing in it has a colour of PALETTE.
    """
    picture = images.load(path, "data.regions", max_pixels)
    image = images.encode(picture.rgb).resize((width, height), Image.Resampling.NEAREST)
    colors = np.asarray(image)
    inside = colors.max(-1) >= OPAQUE
    if not inside.any():
        raise InputError(
            f"Expected a mask of the colours {', '.join(PALETTE)} on black, but {picture.name} is black; paint one"
        )
    strokes = np.zeros((height, width, 4), np.uint8)
    strokes[inside] = np.concatenate([_nearest(colors[inside]), np.full((int(inside.sum()), 1), 255, np.uint8)], axis=1)
    return strokes


def regions(found: Sequence[str], brushed: Sequence[Brushed], path: Path) -> dict[str, dict[str, Any]]:
    """Returns the setting `data.regions` for the regions of a map.

    Args:
        found: Names of the regions that the map has.
        brushed: What each region is to become.
        path: The map's file.
    """
    kept: dict[str, dict[str, Any]] = {}
    for region in brushed:
        if region.name in found:
            kept[region.name] = {"mask": str(path), "color": region.name}
            kept[region.name] |= {"keep": True} if region.painting is None else {}
            kept[region.name] |= {"content_weight": region.content_weight} if region.content_weight != 1 else {}
    return kept


def styles(paintings: Sequence[str], brushed: Sequence[Brushed]) -> list[dict[str, Any]]:
    """Returns the setting `data.style`: each painting for its regions, and the others, or the first, for the rest.

    Args:
        paintings: The paintings' files.
        brushed: The regions that the map has.

    Raises:
        InputError: If a region asks for a painting that is not there.
    """
    placed = {region.name: region.painting for region in brushed if region.painting is not None}
    for name, number in placed.items():
        if number >= len(paintings):
            raise InputError(
                f"Expected the region {name} to have one of {len(paintings)} paintings, but got painting {number + 1}; "
                "add it, or choose another"
            )
    rest = [i for i in range(len(paintings)) if i not in placed.values()] or [0]
    own = [{"image": paintings[number], "region": name} for name, number in placed.items()]
    return [{"image": paintings[i]} for i in rest] + own


def _palette() -> NDArray[np.uint8]:
    return np.array([[int(x[i : i + 2], 16) for i in (1, 3, 5)] for x in PALETTE.values()], np.uint8)


def _nearest(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the colours of the palette that pixels, (N, 3), are nearest to."""
    palette = _palette()
    # each colour is a corner of the cube: the nearest one differs least in the sum over channels
    distances = np.abs(pixels[:, None].astype(np.int16) - palette[None].astype(np.int16)).sum(-1)
    nearest: NDArray[np.uint8] = palette[distances.argmin(1)]
    return nearest
