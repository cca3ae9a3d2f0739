"""The photograph, its regions and the paintings of each region, at any size."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nst.errors import InputError, check_choice
from nst.pictures import color as colors
from nst.pictures.color import Color, Matching
from nst.pictures.geometry import fit
from nst.pictures.images import Picture
from nst.scene.levels import Painting, Place
from nst.scene.masks import at_size, rest
from nst.scene.styles import REST, Region, Style, placed

log = logging.getLogger(__name__)


class LoadedStyle(NamedTuple):
    """A style with its decoded files: the painting, and the painting's mask, (1, 1, h, w), or None for no mask."""

    style: Style
    picture: Picture
    mask: Tensor | None


class Scene:
    """The inputs of a picture: the photograph, its regions and the paintings.

    Args:
        content: The photograph.
        styles: The styles.
        regions: Settings of the photograph's regions, by name.
        masks: The regions' masks, (1, 1, h, w) each, or None for 1 everywhere.
        size: Longer side of the result.
        style_scale: See PictureData.
        color: See PictureData.
        color_match: See PictureData.

    Attributes:
        photograph: The photograph at the result's size, in its own colours.
        keep_mask: Share of the photograph that each pixel keeps, (1, 1, H, W), or None for 0 everywhere.

    Raises:
        InputError: If no pixel of the photograph is to be painted, or the choice of colours does not exist.
    """

    def __init__(
        self,
        content: Picture,
        styles: Sequence[LoadedStyle],
        regions: Mapping[str, Region],
        masks: Mapping[str, Tensor | None],
        size: int,
        style_scale: float = 1.0,
        color: Color = "style",
        color_match: Matching = "symmetric",
    ) -> None:
        check_choice("data.color", color, Color)
        check_choice("data.color_match", color_match, Matching)
        self.content, self.styles, self.regions, self.masks = content, styles, regions, masks
        self.size, self.style_scale = size, style_scale
        self.photograph = content.resized(*fit(content.height, content.width, size))
        self._recolored: dict[tuple[str, int], Picture] = {}
        self.keep_mask = self._cover(self.photograph, self._masks(self.photograph))[1]
        if color != "style":
            self._recolor(color, color_match)

    def at(self, size: int) -> dict[str, Any]:
        """Returns the photograph, the places and their weights at a size, as a Level's attributes."""
        fitted = self.content.resized(*fit(self.content.height, self.content.width, size))
        masks = self._masks(fitted)
        visible, keep_mask = self._cover(fitted, masks)
        places = tuple(
            Place(self._paintings(name, size), name, guide, _share(guide, visible), erode)
            for name, guide, erode in self._guides(masks, visible)
            if placed([loaded.style for loaded in self.styles], name)
        )
        return {
            "content": fitted.rgb,
            "places": places,
            "visible": visible,
            "emphasis": self._emphasis(fitted, masks),
            "subject": self._subject(fitted, masks),
            "keep_mask": keep_mask,
        }

    def _masks(self, fitted: Picture) -> dict[str, Tensor | None]:
        return {name: at_size(mask, fitted.height, fitted.width) for name, mask in self.masks.items()}

    def _cover(self, fitted: Picture, masks: Mapping[str, Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
        """Returns the painted share of each pixel, None for 1 everywhere, and the kept share, None for 0 everywhere."""
        ones = torch.ones_like(fitted.rgb[:, :1])
        visible = ones if fitted.alpha is None else fitted.alpha
        keep_mask = (visible == 0).to(ones)
        for name, mask in masks.items():
            if self.regions[name].keep:
                keep_mask = torch.maximum(keep_mask, ones if mask is None else mask)
        visible = visible * (1 - keep_mask)
        if not visible.any():
            raise InputError(
                f"Expected --data.content to leave something to paint, but all of {fitted.name} is transparent or "
                "kept; change the picture or a mask"
            )
        return (None if bool((visible == 1).all()) else visible), (keep_mask if keep_mask.any() else None)

    def _guides(
        self, masks: Mapping[str, Tensor | None], visible: Tensor | None
    ) -> list[tuple[str, Tensor | None, bool]]:
        """Returns the name, guide and erosion of each region and of the rest; the rest is eroded if any region is."""
        erode = {name: region.erode for name, region in self.regions.items()}
        erode[REST] = any(erode.values())
        masks = dict(masks)
        covered = [mask for mask in masks.values() if mask is not None]
        if not masks:
            masks[REST] = None
        elif len(covered) == len(masks) and (left := rest(covered)) is not None:
            masks[REST] = left
        made = {name: mask for name, mask in masks.items() if name == REST or not self.regions[name].keep}
        if visible is not None:
            made = {name: visible if mask is None else mask * visible for name, mask in made.items()}
        return [(name, guide, erode[name]) for name, guide in made.items()]

    def _emphasis(self, fitted: Picture, masks: Mapping[str, Tensor | None]) -> Tensor | None:
        """Returns the content weights, (1, 1, H, W), averaged where regions overlap; None for 1 everywhere."""
        if all(region.content_weight == 1 for region in self.regions.values()):
            return None
        factors = {name: region.content_weight for name, region in self.regions.items()}
        weight, covered = _mixed(fitted, masks, factors)
        return (weight + (1 - covered).clamp(min=0)) / covered.clamp(min=1)

    def _subject(self, fitted: Picture, masks: Mapping[str, Tensor | None]) -> Tensor | None:
        """Returns how much of a subject regions show, averaged where they overlap, and their cover, (1, 2, H, W)."""
        said = {name: region.subject for name, region in self.regions.items() if region.subject is not None}
        if not said:
            return None
        weight, covered = _mixed(fitted, masks, said)
        return torch.cat([weight / covered.clamp(min=1e-6), covered.clamp(max=1)], dim=1)

    def _paintings(self, place: str, size: int) -> tuple[Painting, ...]:
        chosen = placed([loaded.style for loaded in self.styles], place)
        total = sum(self.styles[i].style.weight for i in chosen)
        return tuple(self._painting(place, i, size, self.styles[i].style.weight / total) for i in chosen)

    def _painting(self, place: str, i: int, size: int, weight: float) -> Painting:
        style, original, mask = self.styles[i]
        longer, wanted = self._longer(i, size), round(size * (style.scale or self.style_scale))
        if longer < wanted and size == self.size:
            log.info(
                "The painting %s is %d×%d and is not enlarged to %d pixels: its strokes come out finer",
                *(original.name, original.width, original.height, wanted),
            )
        picture = self._recolored.get((place, i), original)
        picture = picture.resized(*fit(original.height, original.width, longer))
        layers = None if style.layers is None else frozenset(style.layers)
        return Painting(picture.rgb, weight, layers, _look(picture, mask))

    def _longer(self, i: int, size: int) -> int:
        """Returns a painting's longer side for a result of `size`, at most the longer side of the painting's file."""
        style, picture, _ = self.styles[i]
        scale = style.scale or self.style_scale
        return min(max(1, round(size * scale)), max(picture.height, picture.width))

    def _recolor(self, color: Color, matching: Matching) -> None:
        """Recolours the photograph and the paintings of each place, at the result's size."""
        fitted, masks = self.photograph, self._masks(self.photograph)
        rgb = fitted.rgb
        for place, guide, _ in self._guides(masks, self._cover(fitted, masks)[0]):
            for i in placed([loaded.style for loaded in self.styles], place):
                _, original, mask = self.styles[i]
                painting = original.resized(*fit(original.height, original.width, self._longer(i, self.size)))
                weights = guide, _look(painting, mask)
                rgb, painted = colors.recolored(color, fitted.rgb, painting.rgb, matching, *weights)
                self._recolored[place, i] = replace(painting, rgb=painted)
        self.content = replace(fitted, rgb=rgb)


def _mixed(fitted: Picture, masks: Mapping[str, Tensor | None], values: Mapping[str, float]) -> tuple[Tensor, Tensor]:
    """Returns the sum of the masks of some regions, each times the region's value, and the sum of the masks."""
    ones = torch.ones_like(fitted.rgb[:, :1])
    weight, covered = torch.zeros_like(ones), torch.zeros_like(ones)
    for name, value in values.items():
        mask = masks[name]
        share = ones if mask is None else mask
        weight, covered = weight + share * value, covered + share
    return weight, covered


def _look(picture: Picture, mask: Tensor | None) -> Tensor | None:
    """Returns the weights of a painting's pixels: its mask times its opacity; None for 1 everywhere."""
    fitted = at_size(mask, picture.height, picture.width)
    if fitted is None or picture.alpha is None:
        return picture.alpha if fitted is None else fitted
    return fitted * picture.alpha


def _share(guide: Tensor | None, visible: Tensor | None) -> float:
    """Returns the share of the painted pixels that belongs to a place."""
    if guide is None:
        return 1.0
    whole = guide.numel() if visible is None else float(visible.sum(dtype=torch.float64))
    return float(guide.sum(dtype=torch.float64)) / whole
