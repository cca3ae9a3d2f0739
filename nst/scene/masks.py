"""Masks of regions, read from files: the share of each pixel that belongs to a region."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import torch
import torch.nn.functional as nnf
from PIL import ImageColor
from torch import Tensor

from nst.errors import InputError
from nst.pictures import images
from nst.pictures.geometry import resize
from nst.pictures.images import Picture
from nst.scene.styles import Region, Style

NOISE, TOLERANCE, STRAY = 0.03, 0.15, 0.001
"""RGB distance within which a pixel counts as a named colour, RGB distance within which it counts as a mixture of two,
and the share of pixels that may be farther away: JPEG's noise, and places where three colours meet."""


SMALLEST_SHARE = 1e-4
"""Share of a picture below which a region counts as empty."""


def read_regions(regions: Mapping[str, Region], photograph: Picture, max_pixels: int) -> dict[str, Tensor | None]:
    """Reads the regions' masks.

    Args:
        regions: Settings of the regions, by name.
        photograph: The photograph of the regions.
        max_pixels: See `images.load`.

    Returns:
        The masks by name, (1, 1, h, w) in [0, 1]; None for a mask that is 1 everywhere.

    Raises:
        InputError: If a mask's aspect is not the photograph's, or a mask is empty or has a colour that no region has.
    """
    palettes: dict[str, list[str]] = {}
    for region in regions.values():
        if region.color is not None:
            palettes.setdefault(region.mask, []).append(region.color)
    masks = {}
    for name, region in regions.items():
        key = f"data.regions.{name}.mask"
        loaded = images.load(region.mask, key, max_pixels)
        masks[name] = read_mask(loaded, key, photograph, region.color, palettes.get(region.mask, []))
    return masks


def read_style_mask(
    i: int, style: Style, regions: Mapping[str, Region], painting: Picture, max_pixels: int
) -> Tensor | None:
    """Reads the mask of the i-th style, (1, 1, h, w): by its region's colour if the mask has colours, else by white."""
    assert style.mask is not None
    key = f"data.style[{i}].mask"
    loaded = images.load(style.mask, key, max_pixels)
    color = None if style.region is None or not _has_colors(loaded) else regions[style.region].color
    palette = [region.color for region in regions.values() if region.color is not None]
    return read_mask(loaded, key, painting, color, palette)


def read_mask(mask: Picture, key: str, picture: Picture, color: str | None, palette: Iterable[str]) -> Tensor | None:
    """Returns the weights with which a mask selects a part of a picture.

    Args:
        mask: The mask.
        key: The setting that named the mask.
        picture: The picture that the mask belongs to.
        color: The part's colour in the mask; None for white.
        palette: All colours of the mask.

    Returns:
        Weights of the mask's pixels, (1, 1, h, w) in [0, 1], or None if all weights are 1.

    Raises:
        InputError: If the mask's aspect is not the picture's, or the mask is empty or has a colour outside the palette.
    """
    if abs(math.log(mask.width / mask.height * picture.height / picture.width)) > 0.02:
        raise InputError(
            f"Expected --{key} to have the aspect of {picture.name}, {picture.width}×{picture.height}, but "
            f"{mask.name} is {mask.width}×{mask.height}; crop or scale it"
        )
    weights = _gray(mask, key) if color is None else _colored(mask, key, color, palette)
    if mask.alpha is not None:
        weights = weights * mask.alpha
    if float(weights.mean()) < SMALLEST_SHARE:
        raise InputError(
            f"Expected --{key} to show a region, but {mask.name} is nowhere {color or 'white'}; change the mask or "
            f"drop the region"
        )
    return None if bool((weights == 1).all()) else weights


def at_size(mask: Tensor | None, height: int, width: int) -> Tensor | None:
    """Resamples a mask, (1, 1, h, w), to another size without ringing at its edges."""
    return None if mask is None else resize(mask, height, width, smooth=True)


def rest(masks: Iterable[Tensor]) -> Tensor | None:
    """Returns the mask of the area that no mask covers, all (1, 1, H, W), or None if the area is next to nothing."""
    uncovered = (1 - torch.stack(list(masks)).sum(0)).clamp(min=0)
    return uncovered if float(uncovered.mean()) >= SMALLEST_SHARE else None


def _has_colors(mask: Picture) -> bool:
    spread = mask.rgb.amax(1) - mask.rgb.amin(1)
    return float((spread > TOLERANCE).float().mean()) > STRAY


def _gray(mask: Picture, key: str) -> Tensor:
    """Returns the mean of a mask's sRGB-encoded channels: the middle of a soft edge is 128."""
    if _has_colors(mask):
        raise InputError(
            f"Expected --{key} to be a gray mask, white where the region is, but {mask.name} has colours; give each "
            "region its color"
        )
    return mask.rgb.mean(1, keepdim=True)


def _colored(mask: Picture, key: str, color: str, palette: Iterable[str]) -> Tensor:
    """Returns the share of a colour in each pixel; a pixel has one named colour or a mixture of two."""
    names = [*dict.fromkeys(palette), "black"]
    colors = torch.tensor(list(dict.fromkeys(_rgb(name, key) for name in names)))
    own = [*map(tuple, colors.tolist())].index(tuple(torch.tensor(_rgb(color, key)).tolist()))
    pixels = mask.rgb[0].flatten(1).T
    amount: Tensor = ((pixels - colors[own]).norm(dim=1) <= NOISE).float()
    mixed = (torch.cdist(pixels, colors) > NOISE).all(dim=1).nonzero()[:, 0]
    soft, far = torch.zeros(len(mixed)), torch.full((len(mixed),), math.inf)
    for i, j in combinations(range(len(colors)), 2):
        along, start = colors[j] - colors[i], pixels[mixed] - colors[i]
        share = (start @ along / along.square().sum()).clamp(0, 1)
        distance = (start - share[:, None] * along).norm(dim=1)
        part = share if j == own else 1 - share if i == own else torch.zeros_like(share)
        soft, far = torch.where(distance < far, part, soft), torch.minimum(distance, far)
    stray = pixels[mixed[far > TOLERANCE]]
    if len(stray) > STRAY * len(pixels):
        found = Counter(map(tuple, (stray * 255).round().int().tolist())).most_common(1)[0][0]
        raise InputError(
            f"Expected --{key} to have the regions' colours {', '.join(names)}, but {mask.name} has "
            f"#{''.join(f'{x:02x}' for x in found)} too; name it as the color of a region, or change the mask"
        )
    amount[mixed] = soft
    return amount.view(1, 1, mask.height, mask.width)


def _rgb(name: str, key: str) -> tuple[float, ...]:
    try:
        return tuple(x / 255 for x in ImageColor.getrgb(name)[:3])
    except ValueError:
        setting = f"{key.rpartition('.')[0]}.color"
        shown = name if name.isprintable() else repr(name)
        raise InputError(f"Expected --{setting} to be a colour such as red or #ff0000, but got {shown}") from None


def mask_files(styles: Sequence[Style], regions: Mapping[str, Region]) -> dict[str, Path]:
    """Returns the mask files by the settings that named them."""
    files = {f"data.regions.{name}.mask": Path(region.mask) for name, region in regions.items()}
    return files | {f"data.style[{i}].mask": Path(x.mask) for i, x in enumerate(styles) if x.mask is not None}


HIDDEN = 8
"""Pixels inside of what is kept in which the network sees paint that the result does not show. Where it sees the
photograph up to the border, the few pixels outside have to make up for it, and become dots: 1.6 times as rough as
elsewhere, and as rough as elsewhere with 6 pixels or more."""


def inner(mask: Tensor) -> Tensor:
    """Returns a mask, (1, 1, H, W), without its rim: the smallest value within HIDDEN pixels of each pixel."""
    return -nnf.max_pool2d(-mask, 2 * HIDDEN + 1, stride=1, padding=HIDDEN)
