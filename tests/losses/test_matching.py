"""Matches of cells: against brute force, in few components, and from coarse to fine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from PIL import Image
from scipy.linalg import sqrtm
from torch import Tensor

from nst.losses.terms import matching
from nst.losses.terms.correspondence import HYPERCOLUMN
from nst.losses.terms.matching import align, match, principal
from nst.network import weights
from nst.network.features import Features
from nst.streaming.scanner import Scanner


def grid(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def everywhere(*grids: Tensor) -> list[Tensor]:
    return [torch.ones(cells.shape[1:], dtype=torch.bool) for cells in grids]


def cosines(queries: Tensor, bank: list[Tensor], found: Tensor) -> Tensor:
    """The cosines, about each side's mean, of cells and what they were matched with."""
    known = torch.cat([cells.flatten(1) for cells in bank], dim=1)
    a, b = queries.flatten(1), known
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return nnf.cosine_similarity(a, b[:, found.flatten()], dim=0)


def gaussian_map(own: Tensor, wanted: Tensor) -> Tensor:
    """The map that is optimal between two Gaussians, by SciPy's roots of matrices."""
    least = 1e-3 * float(own.square().mean())
    before, after = (
        x.double().numpy() @ x.double().numpy().T / x.shape[1] + least * np.eye(len(x)) for x in (own, wanted)
    )
    root = sqrtm(before)
    return torch.from_numpy(np.linalg.inv(root) @ sqrtm(root @ after @ root) @ np.linalg.inv(root)).to(own.dtype)


def test_aligned_vectors_have_the_wanted_covariance() -> None:
    own, wanted = (x.flatten(1) - x.flatten(1).mean(1, keepdim=True) for x in (grid(0, 5, 9, 9), grid(1, 5, 8, 11)))
    wanted = torch.diag(torch.tensor([3.0, 1, 0.5, 2, 1])) @ wanted
    moved = align(own, own, wanted)
    torch.testing.assert_close(moved @ moved.T / 81, wanted @ wanted.T / 88, rtol=0.02, atol=0.02)
    torch.testing.assert_close(moved, gaussian_map(own, wanted) @ own, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(align(own, own, own), own, rtol=1e-3, atol=1e-3)
    assert not align(torch.zeros_like(own), torch.zeros_like(own), wanted).any()


def test_a_wide_thing_takes_less_from_one_small_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fifths of the photograph are of a kind that one fiftieth of the painting is of."""
    photograph, painting = grid(0, 8, 20, 20), grid(1, 8, 20, 20)
    photograph[0, :, :8] += 3
    painting[0, :2, :4] += 3
    shares = []
    for aligned in (0.0, matching.ALIGNED):
        monkeypatch.setattr(matching, "ALIGNED", aligned)
        found = match(photograph, [painting], everywhere(painting), everywhere(photograph)[0])
        shares.append(float(((found // 20 < 2) & (found % 20 < 4)).float().mean()))
    assert shares[1] < 0.7 * shares[0]


def test_matches_are_those_of_brute_force() -> None:
    queries, bank = grid(0, 20, 5, 10), [grid(1, 20, 7, 6), grid(2, 20, 4, 7)]
    mine = everywhere(queries)[0]
    mine[:, 7:] = False
    free = everywhere(*bank)
    free[0][2:] = False
    found = match(queries, bank, free, mine)
    known = torch.cat([cells.flatten(1) for cells in bank], dim=1)
    allowed = torch.cat([cells.flatten() for cells in free])
    known = known - known[:, allowed].mean(1, keepdim=True)
    wanted = queries - queries[:, mine].mean(1)[:, None, None]
    moved = torch.tensordot(gaussian_map(wanted[:, mine], known[:, allowed]), wanted, 1)
    wanted = (wanted + moved) / 2
    for row in range(5):
        for column in range(7):
            likeness = [
                float(nnf.cosine_similarity(wanted[:, row, column], known[:, j], dim=0)) if allowed[j] else -2
                for j in range(70)
            ]
            assert int(found[row, column]) == int(np.argmax(likeness))


def test_where_no_cell_may_be_taken_each_may() -> None:
    queries, bank = grid(0, 6, 3, 4), [grid(1, 6, 5, 5)]
    none = [torch.zeros(5, 5, dtype=torch.bool)]
    mine = everywhere(queries)[0]
    assert torch.equal(match(queries, bank, none, mine), match(queries, bank, everywhere(*bank), mine))


@pytest.fixture
def cells(data: Path) -> tuple[Tensor, list[Tensor]]:
    """Whole hypercolumns of a photograph, and of a painting and its half turn."""
    network = Features(weights.load("compact", "imagenet"), HYPERCOLUMN)
    found = []
    for name, size in (("photos/tubingen.jpg", (250, 190)), ("paintings/starry_night_google.jpg", (242, 202))):
        picture = Image.open(data / "images" / name).convert("RGB").resize(size)
        rgb = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255
        channels = [network.shape(layer, 64, 64)[0] for layer in HYPERCOLUMN]
        axes = torch.eye(sum(channels)).split(channels, dim=1)
        scaled = {layer: axis / axis.shape[1] for layer, axis in zip(HYPERCOLUMN, axes, strict=True)}
        found.append(Scanner(network).cells(rgb, scaled, 4))
    return found[0], [found[1], found[1].rot90(2, (1, 2))]


def test_few_components_find_matches_as_good(cells: tuple[Tensor, list[Tensor]]) -> None:
    queries, bank = cells
    axes = principal(bank[0].flatten(1).T, 128)
    few = [torch.tensordot(axes, x, 1) for x in (queries, *bank)]
    mine = everywhere(queries)[0]
    exact, fast = match(queries, bank, everywhere(*bank), mine), match(few[0], few[1:], everywhere(*bank), mine)
    assert float((exact == fast).float().mean()) > 0.6
    assert float((cosines(queries, bank, exact) - cosines(queries, bank, fast)).mean()) < 0.005


def test_from_coarse_to_fine_finds_matches_nearly_as_good(cells: tuple[Tensor, list[Tensor]]) -> None:
    queries, bank = cells
    mine, free = everywhere(queries)[0], everywhere(*bank)
    exact = match(queries, bank, free, mine)
    best = cosines(queries, bank, exact).mean()
    chance = cosines(
        queries, bank, torch.randint(0, 6000, exact.shape, generator=torch.Generator().manual_seed(0))
    ).mean()
    for products in (1 << 20, 1 << 16):
        fast = match(queries, bank, free, mine, products)
        assert float(cosines(queries, bank, fast).mean() - chance) > 0.9 * float(best - chance)


def test_from_coarse_to_fine_takes_what_may_be_taken(cells: tuple[Tensor, list[Tensor]]) -> None:
    queries, bank = cells
    mine, free = everywhere(queries)[0], everywhere(*bank)
    free[0][:, 20:] = False
    free[1][:] = False
    free[1][30, 40] = True
    found = match(queries, bank, free, mine, 1 << 16)
    assert bool(torch.cat([x.flatten() for x in free])[found].all())


def test_from_coarse_to_fine_finds_a_shifted_copy() -> None:
    """Neighbours lead to what is alike in a large area."""
    smooth = nnf.interpolate(grid(3, 1, 8, 10, 12), scale_factor=8, mode="bicubic")[0]
    bank = [smooth, smooth.rot90(2, (1, 2))]
    queries = smooth[:, 5:69, 3:75]
    mine = torch.ones(64, 72, dtype=torch.bool)
    queries = (
        queries - queries.mean((1, 2), keepdim=True) + torch.cat([x.flatten(1) for x in bank], 1).mean(1)[:, None, None]
    )
    likeness = cosines(queries, bank, match(queries, bank, everywhere(*bank), mine, 1 << 16))
    assert float(likeness.median()) > 0.99


def test_principal_directions_are_those_of_most_variance() -> None:
    spread = torch.tensor([5.0, 3.0, 0.1, 0.1])
    vectors = grid(4, 500, 4) * spread + 7
    directions = principal(vectors, 2)
    _, _, wanted = torch.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    assert sorted((directions @ wanted[:2].T).abs().max(1).values.tolist()) == pytest.approx([1, 1], abs=1e-4)
    assert len(principal(vectors, 10)) == 4  # not more than there are
