"""Which cell of paintings is most like each cell of a photograph: exact search, and search from coarse to fine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.losses import functional as F
from nst.machine.numerics import plain, widest

EXACT = 1 << 27
"""Products of cells up to which every pair is compared; above, matches of cells twice as large are refined."""

TILE = 1 << 24
"""Products that are held at once."""

AROUND = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
"""The larger cells whose matches are refined to a match: the one that a cell lies in, and its neighbours."""

SAMPLE = 512
"""The number of cells from which principal components are found."""

ALIGNED = 0.5
"""How far the photograph's cells are moved, before the search, to where they would have the paintings' covariance."""

RIDGE = 1e-3
"""What is added to all variances, as a share of their mean: there are directions in which cells do not vary."""


def match(queries: Tensor, bank: Sequence[Tensor], free: Sequence[Tensor], mine: Tensor, exact: int = EXACT) -> Tensor:
    """Finds the most similar cell of paintings for each cell of a photograph, by the cosine about each side's mean.

    The photograph's cells are first moved half of the way to the paintings' covariance (see ALIGNED). Else a wide thing
    of a colour that a painting has in one small place takes all of its cells from there: a hatch, of a colour that the
    moments of the whole painting forbid.

    Args:
        queries: Descriptions of the photograph's cells, (D, rows, columns).
        bank: Descriptions of the cells of each painting, (D, h, w).
        free: For each painting whether a cell may be taken, (h, w); if none of all may, each may.
        mine: The photograph's cells that take part, (rows, columns).
        exact: Products of cells up to which every pair is compared.

    Returns:
        Positions among the cells of all paintings, row by row, (rows, columns); any position where `mine` is false.

    Source:
        From coarse to fine, with the neighbours' matches as candidates, as in Barnes et al., "PatchMatch" (2009). We
        search a window around each candidate, and draw nothing at random.
    """
    if not any(bool(cells.any()) for cells in free):
        free = [torch.ones_like(cells) for cells in free]
    with plain(queries.device):
        inside = torch.cat([cells[:, allowed] for cells, allowed in zip(bank, free, strict=True)], dim=1)
        mean = inside.mean(1)
        centred = queries - queries[:, mine].mean(1)[:, None, None]
        moved = torch.lerp(centred, align(centred, centred[:, mine], inside - mean[:, None]), ALIGNED)
        return _search(moved, [cells - mean[:, None, None] for cells in bank], free, mine, exact)


def align(vectors: Tensor, own: Tensor, wanted: Tensor) -> Tensor:
    """Moves vectors by the linear map that gives some of them the covariance of others, and moves them least.

    Args:
        vectors: What is moved, (D, ...).
        own: Vectors that have the covariance from which the map leads, (D, n), centred.
        wanted: Vectors that have the covariance to which it leads, (D, m), centred.

    Returns:
        The moved vectors, (D, ...); as they were if `own` are all 0.

    Source:
        The optimal transport between Gaussians: Peyre and Cuturi, "Computational Optimal Transport", remark 2.31. We
        add RIDGE to the variances.
    """
    if not own.any():
        return vectors
    own, wanted = widest(own), widest(wanted)  # in float32, processes that share a picture would match other cells
    ridge = RIDGE * own.square().mean() * torch.eye(len(own), dtype=own.dtype, device=own.device)
    before, after = (x @ x.T / x.shape[1] + ridge for x in (own, wanted))
    root, inverse = _powers(before, 0.5, -0.5)
    (between,) = _powers(root @ after @ root, 0.5)
    move = inverse @ between @ inverse
    moved: Tensor = torch.tensordot(move.to(vectors), vectors, 1)
    return moved


def _powers(matrix: Tensor, *exponents: float) -> list[Tensor]:
    """Returns powers of a symmetric matrix, each (D, D), with eigenvalues that rounding made negative raised."""
    values, directions = F.eigh(matrix)
    values = values.clamp(min=torch.finfo(matrix.dtype).eps * values[-1])
    return [(directions * values**exponent) @ directions.T for exponent in exponents]


def _search(queries: Tensor, bank: Sequence[Tensor], free: Sequence[Tensor], mine: Tensor, exact: int) -> Tensor:
    wanted = nnf.normalize(queries[:, mine].T)
    known = nnf.normalize(torch.cat([cells.flatten(1) for cells in bank], dim=1).T)
    allowed = torch.cat([cells.flatten() for cells in free])
    found = torch.zeros(mine.shape, dtype=torch.long, device=queries.device)
    if len(wanted) * int(allowed.sum()) <= exact or min(mine.shape) < 2:
        chosen = allowed.nonzero()[:, 0]
        within = known[chosen]
        parts = wanted.split(max(1, TILE // len(chosen)))
        found[mine] = chosen[torch.cat([(part @ within.T).argmax(1) for part in parts])]
        return found
    halves = [_half(cells) for cells in bank], [_any(cells) for cells in free]
    matched = _search(_half(queries), *halves, _any(mine), exact)
    rows, columns = mine.nonzero().T
    best = []
    for start in range(0, len(wanted), size := max(1, TILE // 64 // len(AROUND))):
        tile = slice(start, start + size)
        places = torch.cat(list(_candidates(rows[tile], columns[tile], matched, bank)), dim=1)
        likeness = torch.einsum("nkd,nd->nk", known[places], wanted[tile])
        likeness = likeness.masked_fill(~allowed[places], -torch.inf)
        best.append(places.gather(1, likeness.argmax(1, keepdim=True))[:, 0])
    found[mine] = torch.cat(best)
    return found


def _candidates(rows: Tensor, columns: Tensor, matched: Tensor, bank: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yields positions among the cells of all paintings, (n, 9): around where matches of larger cells would lead."""
    heights, widths = (torch.tensor([cells.shape[d] for cells in bank], device=rows.device) for d in (1, 2))
    first = (heights * widths).cumsum(0) - heights * widths
    half_widths = (widths + 1) // 2
    half_areas = (heights + 1) // 2 * half_widths
    half_ends = half_areas.cumsum(0)
    window = torch.cartesian_prod(*[torch.arange(-1, 2, device=rows.device)] * 2)
    for down, right in AROUND:
        row, column = (
            (rows // 2 + down).clamp(0, len(matched) - 1),
            (columns // 2 + right).clamp(0, matched.shape[1] - 1),
        )
        place = matched[row, column]
        of = torch.bucketize(place, half_ends, right=True)
        place = place - (half_ends[of] - ((heights + 1) // 2 * half_widths)[of])
        y = rows - 2 * row + 2 * (place // half_widths[of])
        x = columns - 2 * column + 2 * (place % half_widths[of])
        y = (y[:, None] + window[:, 0]).clamp(min=0).minimum(heights[of][:, None] - 1)
        x = (x[:, None] + window[:, 1]).clamp(min=0).minimum(widths[of][:, None] - 1)
        yield first[of][:, None] + y * widths[of][:, None] + x


def _half(cells: Tensor) -> Tensor:
    """Returns the means of 2×2 cells, (D, ceil(h / 2), ceil(w / 2))."""
    return nnf.avg_pool2d(cells[None], 2, ceil_mode=True, count_include_pad=False)[0]


def _any(cells: Tensor) -> Tensor:
    return nnf.max_pool2d(cells[None].float(), 2, ceil_mode=True)[0] > 0


def principal(vectors: Tensor, count: int) -> Tensor:
    """Returns the directions, (count or fewer, D), in which vectors, (n, D), vary most, by a sample of them."""
    sample = vectors[torch.linspace(0, len(vectors) - 1, min(SAMPLE, len(vectors)), device=vectors.device).long()]
    sample = sample - sample.mean(0)
    with plain(sample.device):
        values, directions = F.eigh(sample @ sample.T)
        kept = (values > 1e-6 * values[-1]).nonzero()[-count:, 0]  # the others are rounding errors
        return nnf.normalize(directions[:, kept].T @ sample)
