"""Style by correspondence: each place of the picture is drawn to the place of a painting that it is most like.

Moments say how much of each texture a picture has, and not where. Here each cell of the photograph, a few pixels a
side, is matched with the cell of the paintings, and of their quarter turns, whose activations are most like its own.
The paintings' activations at the matched cells are the target, position by position; the loss is 1 minus the cosine.
Where the photograph is empty, such as in a sky, the term weighs little: that is the painting's to fill, by its moments.

Source:
    Kolkin et al., "Neural Neighbor Style Transfer", arXiv:2203.13215. We differ: cells keep their inner arrangement,
    the matches are made once for a level and from the photograph alone, half of the way from its covariance to the
    paintings'; moments are compared as well, and subjects weigh more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.errors import InputError, check_choice
from nst.losses.layers import CosineLoss
from nst.losses.objective import FeatureTerm, Scan, shares
from nst.losses.terms.matching import match, principal
from nst.pictures.geometry import fit, resample
from nst.scene.levels import Level, Painting
from nst.scene.subject import subject

Turns = Literal["none", "quarter", "mirror"]
"""Which copies of a painting offer cells: itself, its quarter turns, or these and their mirror images."""

HYPERCOLUMN = tuple(f"relu{block}_{i + 1}" for block, count in ((1, 2), (2, 2), (3, 3), (4, 3)) for i in range(count))
"""Layers whose activations describe a cell."""

DENSE = 1 << 21
"""Positions up to which all are compared of a layer that has one at each pixel; above, every other row and column, as
its target would take much memory."""

DIMENSIONS, SAMPLED = 128, 256
"""Principal components that cells are compared in, and the longer side, in pixels, of the copies of the paintings that
these are found from."""


class CorrespondenceTerm(FeatureTerm):
    """Distance of activations from the paintings' at the places that are most like the photograph's.

    A cell of a region takes from the paintings of its region alone, and from nothing outside of a painting's mask.

    Args:
        layers: Weight of each layer; the weights are scaled to sum to 1.
        weight: Weight of the term.
        empty: Share of the weight that remains where the photograph is empty, in [0, 1] (see `scene.subject`).
        cell: Pixels of a cell's side, a power of two.
        turns: `none`, `quarter` or `mirror`.

    Raises:
        InputError: If a setting is out of range.
    """

    name = "correspondence"
    flag = "--model.correspondence_weight"

    def __init__(
        self, layers: Mapping[str, float], weight: float, empty: float = 0.02, cell: int = 4, turns: Turns = "quarter"
    ) -> None:
        check_choice("model.correspondence_turns", turns, Turns)
        if not 0 <= empty <= 1:
            raise InputError(f"Expected --model.correspondence_empty to be in [0, 1], but got {empty}")
        if cell not in (1, 2, 4, 8, 16):
            raise InputError(f"Expected --model.correspondence_cell to be 1, 2, 4, 8 or 16 pixels, but got {cell}")
        found = shares(self.name, layers, weight)
        self.compared = {layer: CosineLoss() for layer in found}
        super().__init__(self.compared, found)
        self.keeps = tuple(found)
        self.needs = HYPERCOLUMN if found else ()
        self.empty, self.cell, self.turns = empty, cell, turns

    def set_targets(self, level: Level, scan: Scan) -> None:
        photograph = scan.extended(level.content)
        axes = _axes(level, scan)
        sources = list(self._sources(level))
        queries = scan.cells(photograph, axes, self.cell)
        bank = [scan.cells(source.picture, axes, self.cell) for source in sources]
        owner = self._owner(level, scan, photograph)
        fields: dict[tuple[bool, ...], Tensor] = {}
        chosen: dict[str, Tensor] = {}
        for layer in self.compared:
            usable = tuple(source.is_for(layer) for source in sources)
            if usable not in fields:
                fields[usable] = torch.zeros_like(owner)
                for place in range(len(level.places)):
                    mine = owner == place
                    if not mine.any():
                        continue
                    free = [
                        x.inside.to(mine.device) & (use and x.place == place)
                        for x, use in zip(sources, usable, strict=True)
                    ]
                    fields[usable][mine] = match(queries, bank, free, mine)[mine]
            chosen[layer] = fields[usable]
        targets = self._gathered(sources, chosen, scan, photograph)
        weights = torch.lerp(torch.ones(()), subject(level), 1 - self.empty)
        weights = weights if level.visible is None else weights * level.visible
        weighted, visible = (scan.spread(x, self.compared) for x in (weights, level.visible))
        for layer, loss in self.compared.items():
            _, rows, columns = scan.shape(layer, *photograph.shape[2:])
            every = 2 if scan.stride(layer) == 1 and rows * columns > DENSE else 1
            loss.set_target(targets[layer], weighted[layer], visible[layer], scan.total, every)

    def _sources(self, level: Level) -> Iterator[Source]:
        """Yields the turns of all paintings, place by place."""
        turns = 1 if self.turns == "none" else 4
        for i, place in enumerate(level.places):
            for painting in place.paintings:
                guide = torch.ones_like(painting.picture[:, :1]) if painting.guide is None else painting.guide
                for mirrored in (False, True) if self.turns == "mirror" else (False,):
                    for turn in range(turns):
                        picture, seen = (
                            (x.flip(3) if mirrored else x).rot90(turn, (2, 3)) for x in (painting.picture, guide)
                        )
                        yield Source(picture, painting, i, self._over_cells(seen) >= 0.5)

    def _owner(self, level: Level, scan: Scan, photograph: Tensor) -> Tensor:
        """Returns the index of the place that each cell of the photograph belongs to most, (rows, columns)."""
        ones = torch.ones_like(photograph[:, :1])
        guides = [ones if place.guide is None else scan.extended(place.guide) for place in level.places]
        return torch.stack([self._over_cells(guide) for guide in guides]).argmax(0)

    def _over_cells(self, mask: Tensor) -> Tensor:
        """Returns the means of a mask, (1, 1, H, W), over whole cells, (H // cell, W // cell)."""
        return nnf.avg_pool2d(mask, self.cell)[0, 0]

    def _gathered(
        self, sources: Sequence[Source], fields: Mapping[str, Tensor], scan: Scan, photograph: Tensor
    ) -> dict[str, Tensor]:
        """Returns the activations of the matched cells, (1, C, h, w) by layer, as the photograph's cells lie.

        Args:
            sources: The turned paintings.
            fields: For each layer the position, among the cells of all sources, that each cell takes, (rows, columns).
            scan: Runs the network on the sources, one at a time.
            photograph: (1, 3, H, W).
        """
        targets: dict[str, Tensor] = {}
        first, side = 0, self.cell
        for source in sources:
            columns_of_cells, last = source.inside.shape[1], first + source.inside.numel()
            used = [layer for layer, field in fields.items() if bool(((field >= first) & (field < last)).any())]
            for layer, activations in scan.painting(source.picture, used).items() if used else ():
                stride, own = scan.stride(layer), scan.own(layer, photograph.shape[2])
                channels, _, width = scan.shape(layer, *photograph.shape[2:])
                rows, columns = (
                    torch.arange(a, b, device=activations.device) for a, b in ((own.start, own.stop), (0, width))
                )
                targets.setdefault(layer, activations.new_zeros(1, channels, len(rows), width))
                field = fields[layer]
                cell = field[(rows * stride // side).clamp(max=len(field) - 1)]
                cell = cell[:, (columns * stride // side).clamp(max=field.shape[1] - 1)] - first
                mine = (cell >= 0) & (cell < last - first)
                inner = max(1, side // stride)  # positions of a cell's side, which keep their arrangement
                y = cell // columns_of_cells * side // stride + rows[:, None] % inner
                x = cell % columns_of_cells * side // stride + columns % inner
                y, x = y.clamp(max=activations.shape[2] - 1), x.clamp(max=activations.shape[3] - 1)
                targets[layer][:, :, mine] = activations[:, :, y[mine], x[mine]]
            first = last
        return targets


class Source(NamedTuple):
    """A painting, turned, from which cells are taken.

    Attributes:
        picture: (1, 3, h, w).
        painting: The painting that it is a turn of.
        place: The index of the place that the painting is for.
        inside: Whether a cell may be taken, (rows, columns): one that a mask hides by half may not.
    """

    picture: Tensor
    painting: Painting
    place: int
    inside: Tensor

    def is_for(self, layer: str) -> bool:
        """Whether the painting is for a layer."""
        return self.painting.weight > 0 and (self.painting.layers is None or layer in self.painting.layers)


def _axes(level: Level, scan: Scan) -> dict[str, Tensor]:
    """Returns the principal directions of the paintings' hypercolumns, by layer, (DIMENSIONS or fewer, C).

    A hypercolumn is the activations of all layers at a place, each layer over its number of channels.
    """
    found: list[Tensor] = []
    for painting in level.paintings:
        height, width = painting.picture.shape[2:]
        small = resample(painting.picture, fit(height, width, min(SAMPLED, max(height, width))), "bilinear")
        size = tuple(max(1, side // 4) for side in small.shape[2:])
        seen = scan.painting(small, HYPERCOLUMN)
        maps = [nnf.interpolate(seen[layer].float() / seen[layer].shape[1], size, mode="area") for layer in HYPERCOLUMN]
        found.append(torch.cat(maps, dim=1)[0].flatten(1).T)
    directions = principal(torch.cat(found), DIMENSIONS)
    channels = [scan.shape(layer, *level.content.shape[2:])[0] for layer in HYPERCOLUMN]
    parts = directions.split(channels, dim=1)
    return {layer: part / part.shape[1] for layer, part in zip(HYPERCOLUMN, parts, strict=True)}
