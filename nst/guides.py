"""Which style goes where: settings of styles and regions, and masks from files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import torch
from PIL import ImageColor
from torch import Tensor

from nst import images
from nst.errors import InputError, nearest
from nst.images import Picture
from nst.types import InputPath

REST = ""
"""Name of what lies outside of all regions."""

NOISE, TOLERANCE, STRAY = 0.03, 0.15, 0.001
"""Distance of a pixel's RGB from a named colour that is still that colour, that from a mixture of two which is still a
mixture, and the share of pixels that may be farther: JPEG's noise, and places where three colours meet."""

SMALLEST_SHARE = 1e-4
"""Share of a picture below which a region has nothing to look at."""


@dataclass
class Style:
    """A painting, and what it is for.

    Args:
        image: The painting: a file, or `sample`.
        weight: Its share among the styles of a place; they are scaled to sum to 1.
        scale: Longer side of the painting over that of the result; by default `data.style_scale`.
        layers: The style layers that it is for; by default all.
        mask: The part of the painting to look at, a mask like a region's.
        region: The region that it is for; by default every region that has no style of its own, and the rest.
    """

    image: Literal["sample"] | InputPath
    weight: float = 1.0
    scale: float | None = None
    layers: list[str] | None = None
    mask: InputPath | None = None
    region: str | None = None


@dataclass
class Region:
    """A part of the photograph.

    Args:
        mask: A picture of the photograph's aspect: white where the region is, gray where it is a little.
        color: The region's colour in a mask of several colours, such as `red` or `#ff0000`; black is the rest, unless
            a region has it.
        content_weight: How much more than elsewhere the photograph counts here.
        keep: Whether the photograph stays as it is here.
        erode: Whether the style is compared only where the network sees nothing but this region, so that its border
            takes nothing from the neighbours; layers for which nothing remains are compared everywhere in the region.
    """

    mask: InputPath
    color: str | None = None
    content_weight: float = 1.0
    keep: bool = False
    erode: bool = False


def check_styles(styles: Sequence[Style], regions: Mapping[str, Region]) -> None:
    """Raises an InputError unless every style can be placed and every region has one."""
    if not styles:
        raise InputError("Expected --data.style to name a painting, but got an empty list")
    for i, style in enumerate(styles):
        key = f"data.style[{i}]"
        if not 0 <= style.weight < math.inf:
            raise InputError(f"Expected a finite weight of 0 or more, but got {style.weight}; change --{key}.weight")
        if style.scale is not None and not 0 < style.scale < math.inf:
            raise InputError(f"Expected a scale above 0, but got {style.scale}; change --{key}.scale")
        if style.region is not None and style.region not in regions:
            raise InputError(
                f"Expected --{key}.region to be one of --data.regions, but got {style.region or 'an empty name'}"
                f"{nearest(style.region, regions)}"
            )
        if style.layers is not None and not style.layers:
            raise InputError(f"Expected --{key}.layers to name a layer, but got an empty list; leave it out for all")
    if not any(style.weight > 0 for style in styles):
        raise InputError("Expected a style with a weight above 0, but all weights are 0; change --data.style_weights")
    for name, region in regions.items():
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise InputError(
                f"Expected regions of --data.regions to have names that can be printed, but got {name!r}; rename it"
            )
        if not 0 <= region.content_weight < math.inf:
            raise InputError(
                f"Expected a finite weight of 0 or more, but got {region.content_weight}; "
                f"change --data.regions.{name}.content_weight"
            )
        if not region.keep and not placed(styles, name):
            raise InputError(
                f"Expected every region to have a style, but {name} has none; give --data.style an entry with "
                f"region: {name}, one for all regions, or set --data.regions.{name}.keep"
            )


def placed(styles: Sequence[Style], region: str) -> list[int]:
    """Returns the positions of the styles that a region takes: its own, or else those for all."""
    weighted = [i for i, style in enumerate(styles) if style.weight > 0]
    own = [i for i in weighted if styles[i].region == region]
    return own or [i for i in weighted if styles[i].region is None]


def read_regions(regions: Mapping[str, Region], photograph: Picture, max_pixels: int) -> dict[str, Tensor | None]:
    """Reads the regions' masks.

    Args:
        regions: Their settings, by name.
        photograph: What they are parts of.
        max_pixels: See `images.load`.

    Returns:
        The masks by name, (1, 1, h, w) in [0, 1]; None for one that is 1 everywhere.

    Raises:
        InputError: If a mask is of another aspect, has a colour that no region has, or is empty.
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
    """Reads the mask of the i-th style, (1, 1, h, w): by its region's colour if it has colours, else by white."""
    assert style.mask is not None
    key = f"data.style[{i}].mask"
    loaded = images.load(style.mask, key, max_pixels)
    color = None if style.region is None or not _has_colors(loaded) else regions[style.region].color
    palette = [region.color for region in regions.values() if region.color is not None]
    return read_mask(loaded, key, painting, color, palette)


def read_mask(mask: Picture, key: str, picture: Picture, color: str | None, palette: Iterable[str]) -> Tensor | None:
    """Finds out where a mask shows a part of a picture.

    Args:
        mask: The mask.
        key: The setting that named it.
        picture: What it is a mask of.
        color: The colour that stands for the part; None for white.
        palette: All colours of the mask.

    Returns:
        Weights of the mask's pixels, (1, 1, h, w) in [0, 1], or None if all of them are 1.

    Raises:
        InputError: If it is of another aspect, has a colour that is not in the palette, or is empty.
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
    """Brings a mask, (1, 1, h, w), to another size; soft edges and averages stay in [0, 1]."""
    return None if mask is None else images.resize(mask, height, width, smooth=True)


def rest(masks: Iterable[Tensor]) -> Tensor | None:
    """Returns what masks, all (1, 1, H, W), leave uncovered, or None where that is next to nothing."""
    uncovered = (1 - torch.stack(list(masks)).sum(0)).clamp(min=0)
    return uncovered if float(uncovered.mean()) >= SMALLEST_SHARE else None


def _has_colors(mask: Picture) -> bool:
    spread = mask.rgb.amax(1) - mask.rgb.amin(1)
    return float((spread > TOLERANCE).float().mean()) > STRAY


def _gray(mask: Picture, key: str) -> Tensor:
    """Returns the brightness, of sRGB's values as they are: half of a soft edge is 128."""
    if _has_colors(mask):
        raise InputError(
            f"Expected --{key} to be a gray mask, white where the region is, but {mask.name} has colours; give each "
            "region its color"
        )
    return mask.rgb.mean(1, keepdim=True)


def _colored(mask: Picture, key: str, color: str, palette: Iterable[str]) -> Tensor:
    """Returns how much of a colour is in each pixel, which is of one named colour or a mixture of two."""
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
    """Returns the masks' files by the setting that named them."""
    files = {f"data.regions.{name}.mask": Path(region.mask) for name, region in regions.items()}
    return files | {f"data.style[{i}].mask": Path(x.mask) for i, x in enumerate(styles) if x.mask is not None}
