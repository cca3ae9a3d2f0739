"""Style by correspondence: each place of the picture is drawn to the place of a painting that it is most like.

Moments say how much of each texture a picture has, and not where. Here each cell of the photograph, a few pixels a
side, is matched with the cell of the paintings, and of their quarter turns, whose activations are most like its own.
The paintings' activations at the matched cells are the target, position by position; the loss is 1 minus the cosine.

Source:
    Kolkin et al., "Neural Neighbor Style Transfer", arXiv:2203.13215. We differ: cells keep their inner arrangement,
    the matches are made once for a level and from the photograph alone, and moments are compared as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.losses import functional as F
from nst.losses.layers import CosineLoss
from nst.losses.objective import FeatureTerm, Scan, shares
from nst.scene.levels import Level, Painting

CELL = 4
"""Pixels of a cell's side."""

HYPERCOLUMN = tuple(f"relu{block}_{i + 1}" for block, count in ((1, 2), (2, 2), (3, 3), (4, 3)) for i in range(count))
"""Layers whose activations describe a cell."""

DIMENSIONS, SAMPLE = 128, 1024
"""Principal components that cells are compared in, and the number of cells that these are found from."""

TILE = 1 << 24
"""Products that are held at once while matches are searched."""


class CorrespondenceTerm(FeatureTerm):
    """Distance of activations from the paintings' at the places that are most like the photograph's.

    A cell of a region takes from the paintings of its region alone, and from nothing outside of a painting's mask.

    Args:
        layers: Weight of each layer; the weights are scaled to sum to 1.
        weight: Weight of the term.

    Raises:
        InputError: If a weight is negative or not finite.
    """

    name = "correspondence"
    flag = "--model.correspondence_weight"

    def __init__(self, layers: Mapping[str, float], weight: float) -> None:
        found = shares(self.name, layers, weight)
        self.compared = {layer: CosineLoss() for layer in found}
        super().__init__(self.compared, found)
        self.keeps = tuple(found)
        self.needs = HYPERCOLUMN if found else ()

    def set_targets(self, level: Level, scan: Scan) -> None:
        photograph = scan.extended(level.content)
        sources = list(_sources(level))
        queries = hypercolumns(scan.cells(photograph, HYPERCOLUMN, CELL))
        bank = torch.cat([hypercolumns(scan.cells(source.picture, HYPERCOLUMN, CELL)) for source in sources])
        owner = _owners(level, scan, photograph)
        fields: dict[tuple[bool, ...], Tensor] = {}
        chosen: dict[str, Tensor] = {}
        for layer in self.compared:
            usable = tuple(source.is_for(layer) for source in sources)
            if usable not in fields:
                free = torch.cat(
                    [x.inside if use else torch.zeros_like(x.inside) for x, use in zip(sources, usable, strict=True)]
                )
                place = torch.cat([torch.full_like(x.inside, x.place, dtype=torch.long) for x in sources])
                found = match(queries, bank, owner, place.to(bank.device), free.to(bank.device))
                fields[usable] = found.view(photograph.shape[2] // CELL, photograph.shape[3] // CELL)
            chosen[layer] = fields[usable]
        targets = _gathered(sources, chosen, scan, photograph)
        weights = scan.spread(level.visible, self.compared)
        for layer, loss in self.compared.items():
            loss.set_target(targets[layer], weights[layer])


class Source(NamedTuple):
    """A painting, turned, from which cells are taken.

    Attributes:
        picture: (1, 3, h, w).
        painting: The painting that it is a turn of.
        place: The index of the place that the painting is for.
        inside: Whether a cell may be taken, (h // CELL · w // CELL,): one that a mask hides by half may not.
    """

    picture: Tensor
    painting: Painting
    place: int
    inside: Tensor

    def is_for(self, layer: str) -> bool:
        """Whether the painting is for a layer."""
        return self.painting.weight > 0 and (self.painting.layers is None or layer in self.painting.layers)


def _sources(level: Level) -> Iterator[Source]:
    """Yields the quarter turns of all paintings, place by place."""
    for i, place in enumerate(level.places):
        for painting in place.paintings:
            for turn in range(4):
                picture = painting.picture.rot90(turn, (2, 3))
                guide = (
                    torch.ones_like(picture[:, :1]) if painting.guide is None else painting.guide.rot90(turn, (2, 3))
                )
                yield Source(picture, painting, i, (_over_cells(guide) >= 0.5).flatten())


def _owners(level: Level, scan: Scan, photograph: Tensor) -> Tensor:
    """Returns the index of the place that each cell of the photograph belongs to most, (cells,)."""
    ones = torch.ones_like(photograph[:, :1])
    guides = [ones if place.guide is None else scan.extended(place.guide) for place in level.places]
    return torch.stack([_over_cells(guide).flatten() for guide in guides]).argmax(0)


def _over_cells(mask: Tensor) -> Tensor:
    """Returns the means of a mask, (1, 1, H, W), over whole cells, (H // CELL, W // CELL)."""
    return nnf.avg_pool2d(mask, CELL)[0, 0]


def _gathered(
    sources: Sequence[Source], fields: Mapping[str, Tensor], scan: Scan, photograph: Tensor
) -> dict[str, Tensor]:
    """Returns the activations of the matched cells, (1, C, h, w) by layer, as the photograph's cells lie.

    Args:
        sources: The turned paintings.
        fields: For each layer the position, among the cells of all sources, that each cell takes, (rows, columns).
        scan: Runs the network on the sources, one at a time.
        photograph: (1, 3, H, W).
    """
    targets: dict[str, Tensor] = {}
    first = 0
    for source in sources:
        columns_of_cells, last = source.picture.shape[3] // CELL, first + len(source.inside)
        used = [layer for layer, field in fields.items() if bool(((field >= first) & (field < last)).any())]
        for layer, activations in scan.painting(source.picture, used).items() if used else ():
            stride, shape = scan.stride(layer), scan.shape(layer, *photograph.shape[2:])
            targets.setdefault(layer, activations.new_zeros(1, *shape))
            rows, columns = (torch.arange(side, device=activations.device) for side in shape[1:])
            field = fields[layer]
            cell = field[(rows * stride // CELL).clamp(max=len(field) - 1)]
            cell = cell[:, (columns * stride // CELL).clamp(max=field.shape[1] - 1)] - first
            mine = (cell >= 0) & (cell < last - first)
            inner = max(1, CELL // stride)  # positions of a cell's side, which keep their arrangement
            y = cell // columns_of_cells * CELL // stride + rows[:, None] % inner
            x = cell % columns_of_cells * CELL // stride + columns % inner
            y, x = y.clamp(max=activations.shape[2] - 1), x.clamp(max=activations.shape[3] - 1)
            targets[layer][:, :, mine] = activations[:, :, y[mine], x[mine]]
        first = last
    return targets


def hypercolumns(cells: Mapping[str, Tensor]) -> Tensor:
    """Joins the activations of cells at several layers, each over its number of channels, to (cells, D)."""
    return torch.cat([cells[layer][0].flatten(1).T / cells[layer].shape[1] for layer in HYPERCOLUMN], dim=1)


def match(
    queries: Tensor, bank: Tensor, owner: Tensor, place: Tensor, free: Tensor, dimensions: int = DIMENSIONS
) -> Tensor:
    """Finds the most similar cell of paintings for each cell of a photograph, by the cosine about each side's mean.

    Args:
        queries: Hypercolumns of the photograph's cells, (n, D).
        bank: Hypercolumns of the paintings' cells, (m, D).
        owner: The place that a cell of the photograph belongs to, (n,).
        place: The place that a cell of the paintings is for, (m,).
        free: Whether a cell of the paintings may be taken, (m,); a place without any such cell takes from all cells.
        dimensions: Principal components of the bank that are compared; D or more for an exact search.

    Returns:
        Positions in the bank, (n,).
    """
    found = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
    for i in owner.unique():
        mine, allowed = owner == i, free & (place == i)
        chosen = (allowed if bool(allowed.any()) else torch.ones_like(allowed)).nonzero()[:, 0]
        wanted, known = queries[mine], bank[chosen]
        wanted, known = wanted - wanted.mean(0), known - known.mean(0)
        if dimensions < known.shape[1]:
            axes = principal(known, dimensions)
            wanted, known = wanted @ axes.T, known @ axes.T
        wanted, known = nnf.normalize(wanted), nnf.normalize(known)
        parts = wanted.split(max(1, TILE // len(known)))
        found[mine] = chosen[torch.cat([(part @ known.T).argmax(1) for part in parts])]
    return found


def principal(vectors: Tensor, count: int) -> Tensor:
    """Returns the directions, (count, D), in which vectors of mean 0, (n, D), vary most, by a sample of them."""
    sample = vectors[torch.linspace(0, len(vectors) - 1, min(SAMPLE, len(vectors)), device=vectors.device).long()]
    _, directions = F.eigh(sample @ sample.T)
    return nnf.normalize(directions[:, -count:].T @ sample)
