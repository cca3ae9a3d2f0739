"""Style by correspondence: each place of the picture is drawn to the place of a painting that it is most like.

Moments say how much of each texture a picture has, and not where. Here each cell of the photograph, a few pixels a
side, is matched with the cell of the paintings, and of their quarter turns, whose activations are most like its own.
The paintings' activations at the matched cells are the target, position by position; the loss is 1 minus the cosine.

Source:
    Kolkin et al., "Neural Neighbor Style Transfer", arXiv:2203.13215. We differ: cells keep their inner arrangement,
    the matches are made once for a level and from the photograph alone, and moments are compared as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.losses import functional as F
from nst.losses.objective import ALL, FeatureTerm, LayerLoss, Scan, shares
from nst.losses.statistics import Value
from nst.scene.levels import Level

CELL = 4
"""Pixels of a cell's side."""

HYPERCOLUMN = (
    *("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3", "relu4_1", "relu4_2", "relu4_3"),
)
"""Layers whose activations describe a cell."""

DIMENSIONS, SAMPLE = 128, 1024
"""Principal components that cells are compared in, and the number of cells that these are found from."""

TILE = 1 << 24
"""Products that are held at once while matches are searched."""

EPSILON = 1e-4
"""Squared length below which a feature vector has no direction."""


class CosineLoss(LayerLoss):
    """One minus the cosine of activations and their targets, the mean over positions."""

    target: Tensor
    weights: Tensor | None
    total: Tensor

    def set_target(self, target: Tensor, weights: Tensor | None = None) -> None:
        """Sets the target activations, (1, C, h, w), and weights of the positions, (1, 1, h, w), None for 1."""
        self.target, self.weights = unit(target)[0].to(target.dtype), weights
        self.total = target.new_tensor(target[:, 0].numel(), dtype=torch.float32) if weights is None else weights.sum()

    def statistics(self, features: Tensor, rows: slice = ALL) -> Value:
        target, weights, sums = self.target[:, :, rows], self._weights(rows), []
        for part in F.parts_of(features):
            cosine = (unit(features[:, :, part])[0] * target[:, :, part]).sum(1, keepdim=True)
            sums.append(((1 - cosine) if weights is None else (1 - cosine) * weights[:, :, part]).sum())
        return Value(torch.stack(sums).sum())

    def add_gradient(self, gradient: Tensor, features: Tensor, cotangent: Any, rows: slice = ALL) -> None:
        target, weights = self.target[:, :, rows], self._weights(rows)
        for part in F.parts_of(features):
            direction, length = unit(features[:, :, part])
            wanted = target[:, :, part].to(direction.dtype)
            cosine = (direction * wanted).sum(1, keepdim=True)
            factor = cotangent.value / length if weights is None else cotangent.value * weights[:, :, part] / length
            gradient[:, :, part] += ((direction * cosine - wanted) * factor).to(gradient.dtype)

    def value(self, statistics: Value) -> Tensor:
        return statistics.value / self.total.clamp(min=1e-12)

    def _weights(self, rows: slice) -> Tensor | None:
        return None if self.weights is None else self.weights[:, :, rows]


class CorrespondenceTerm(FeatureTerm):
    """Distance of activations from the paintings' at the places that are most like the photograph's.

    A cell of a region takes from the paintings of its region alone, and from nothing outside of a painting's mask.

    Args:
        layers: Weight of each layer; the weights are scaled to sum to 1.
        weight: Weight of the term.
        turns: Whether the paintings' quarter turns are matched too.

    Raises:
        InputError: If a weight is negative or not finite.
    """

    name = "correspondence"
    flag = "--model.correspondence_weight"

    def __init__(self, layers: Mapping[str, float], weight: float = 0.3, turns: bool = True) -> None:
        found = shares(self.name, layers, weight)
        self.compared = {layer: CosineLoss() for layer in found}
        super().__init__(self.compared, found)
        self.keeps = tuple(found)
        self.needs = HYPERCOLUMN if found else ()
        self.turns = turns

    def set_targets(self, level: Level, scan: Scan) -> None:
        photograph = scan.extended(level.content)
        queries = hypercolumns(scan.cells(photograph, HYPERCOLUMN, CELL))
        pictures = [painting.picture.rot90(turn, (2, 3)) for painting in level.paintings for turn in self._turns]
        banks = [hypercolumns(scan.cells(picture, HYPERCOLUMN, CELL)) for picture in pictures]
        grids = [(picture.shape[2] // CELL, picture.shape[3] // CELL) for picture in pictures]
        allowed = {layer: self._allowed(level, layer, grids, photograph.device) for layer in self.compared}
        place = self._places(level, scan, photograph)
        fields: dict[bytes, Tensor] = {}
        chosen: dict[str, Tensor] = {}
        for layer, masks in allowed.items():
            key = torch.stack(masks).cpu().numpy().tobytes()
            if key not in fields:
                fields[key] = match(queries, torch.cat(banks), [place == i for i in range(len(masks))], masks)
            chosen[layer] = fields[key].view(photograph.shape[2] // CELL, photograph.shape[3] // CELL)
        self._gather(level, scan, photograph, pictures, grids, chosen)

    @property
    def _turns(self) -> range:
        return range(4 if self.turns else 1)

    def _allowed(self, level: Level, layer: str, grids: list[tuple[int, int]], device: torch.device) -> list[Tensor]:
        """Returns which cells of all pictures each place may take from at a layer, as masks of all cells."""
        masks, first = [], 0
        for place in level.places:
            count = len(place.paintings) * len(self._turns)
            parts = [torch.zeros(h * w, dtype=torch.bool) for h, w in grids]
            for i, painting in enumerate(place.paintings):
                if painting.weight == 0 or not (painting.layers is None or layer in painting.layers):
                    continue
                for j, turn in enumerate(self._turns):
                    position = first + i * len(self._turns) + j
                    grid = grids[position]
                    inside = torch.ones(grid, dtype=torch.bool)
                    if painting.guide is not None:
                        guide = painting.guide.rot90(turn, (2, 3))[:, :, : grid[0] * CELL, : grid[1] * CELL]
                        inside = nnf.avg_pool2d(guide, CELL)[0, 0] >= 0.5
                    parts[position] = inside.flatten()
            first += count
            masks.append(torch.cat(parts).to(device))
        return masks

    def _places(self, level: Level, scan: Scan, photograph: Tensor) -> Tensor:
        """Returns the index of the place that each cell of the photograph belongs to most, (cells,)."""
        height, width = (side // CELL * CELL for side in photograph.shape[2:])
        ones = torch.ones_like(photograph[:, :1])
        guides = [ones if place.guide is None else scan.extended(place.guide) for place in level.places]
        cells = [nnf.avg_pool2d(guide[:, :, :height, :width], CELL).flatten() for guide in guides]
        return torch.stack(cells).argmax(0)

    def _gather(
        self,
        level: Level,
        scan: Scan,
        photograph: Tensor,
        pictures: list[Tensor],
        grids: list[tuple[int, int]],
        fields: Mapping[str, Tensor],
    ) -> None:
        """Sets the losses' targets to the activations of the matched cells, picture by picture."""
        targets: dict[str, Tensor] = {}
        first = 0
        for picture, (height, width) in zip(pictures, grids, strict=True):
            cells = slice(first, first + height * width)
            first = cells.stop
            used = {x: f for x, f in fields.items() if bool(((f >= cells.start) & (f < cells.stop)).any())}
            for layer, activations in scan.painting(picture, used).items() if used else ():
                stride = scan.stride(layer)
                shape = scan.shape(layer, *photograph.shape[2:])
                targets.setdefault(layer, activations.new_zeros(1, *shape))
                rows, columns = (torch.arange(side, device=activations.device) for side in shape[1:])
                field = fields[layer]
                cell = field[(rows * stride // CELL).clamp(max=len(field) - 1)]
                cell = cell[:, (columns * stride // CELL).clamp(max=field.shape[1] - 1)]
                mine = (cell >= cells.start) & (cell < cells.stop)
                source, inside = (cell - cells.start).clamp(0, height * width - 1), max(1, CELL // stride)
                y = source // width * CELL // stride + rows[:, None] % inside
                x = source % width * CELL // stride + columns % inside
                y, x = y.clamp(max=activations.shape[2] - 1), x.clamp(max=activations.shape[3] - 1)
                targets[layer][:, :, mine] = activations[:, :, y[mine], x[mine]]
        weights = scan.spread(level.visible, self.compared)
        for layer, loss in self.compared.items():
            loss.set_target(targets[layer], weights[layer])


def unit(features: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the directions of feature vectors, (N, C, h, w), float32 at least, and their lengths, (N, 1, h, w)."""
    wide = features.to(torch.promote_types(features.dtype, torch.float32))
    length = (wide.square().sum(1, keepdim=True) + EPSILON).sqrt()
    return wide / length, length


def hypercolumns(cells: Mapping[str, Tensor]) -> Tensor:
    """Joins the activations of cells at several layers, each over its number of channels, to (cells, D)."""
    return torch.cat([cells[layer][0].flatten(1).T / cells[layer].shape[1] for layer in HYPERCOLUMN], dim=1)


def match(
    queries: Tensor, bank: Tensor, members: list[Tensor], allowed: list[Tensor], dimensions: int = DIMENSIONS
) -> Tensor:
    """Finds the most similar cell of paintings for each cell of a photograph, by the cosine about each side's mean.

    Args:
        queries: Hypercolumns of the photograph's cells, (n, D).
        bank: Hypercolumns of the paintings' cells, (m, D).
        members: For each place the cells of the photograph that belong to it, masks of (n,).
        allowed: For each place the cells of paintings that it may take from, masks of (m,); all of them if none is.
        dimensions: Principal components of the bank that are compared; D or more for an exact search.

    Returns:
        Positions in the bank, (n,).
    """
    found = torch.zeros(len(queries), dtype=torch.long, device=queries.device)
    for mine, free in zip(members, allowed, strict=True):
        if not bool(mine.any()):
            continue
        chosen = (free if bool(free.any()) else torch.ones_like(free)).nonzero()[:, 0]
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
