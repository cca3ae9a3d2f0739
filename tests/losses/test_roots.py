"""Roots of matrices by products alone, and the Gaussians' distance on devices that decompose none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst.losses import functional as F
from nst.losses.distances import wasserstein
from nst.losses.distances.wasserstein import prepared, wasserstein_distance
from nst.losses.statistics import Moments
from nst.optimise.module import StyleTransfer
from nst.optimise.optimizers import LaplacianAdam
from nst.scene.data import PictureData
from nst.types import InputPath, Pixels
from tests.helpers import difference, run


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def root_sum(matrix: Tensor) -> float:
    """The sum of the roots of a matrix's eigenvalues, in float64."""
    return float(torch.linalg.eigvalsh(matrix.double()).clamp(min=0).sqrt().sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_roots_of_a_matrix(size: int, dtype: torch.dtype) -> None:
    vectors = torch.linalg.qr(draw(size, size, seed=1, dtype=torch.float64))[0]
    matrix = (vectors * torch.logspace(-2, 3, size, dtype=torch.float64) @ vectors.T).to(dtype)
    root, inverse = F.roots(matrix)
    torch.testing.assert_close(root @ root, matrix, rtol=1e-4, atol=1e-4 * float(matrix.max()))
    torch.testing.assert_close(root @ inverse, torch.eye(size, dtype=dtype), rtol=0, atol=1e-2)
    assert float(root.trace()) == pytest.approx(root_sum(matrix), rel=1e-4)


@pytest.mark.parametrize("rank", [3, 40, 150, 300])
@pytest.mark.parametrize("noise", [0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2])
def test_rounding_of_either_sign_does_not_blow_up(rank: int, noise: float) -> None:
    """Covariances have fewer positions than channels, and their smallest eigenvalues are the rounding of sums."""
    x, error = draw(300, rank, seed=2), draw(300, 300, seed=3)
    clean = x @ x.T
    root, inverse = F.roots(clean + noise * (error + error.T))
    assert float(root.trace()) == pytest.approx(root_sum(clean), rel=3e-3 + 0.5 * noise**0.5 * 300 / rank)
    # M^(-½) as it takes part: times the features, in whose directions it is a projection
    taken = inverse @ x
    assert torch.linalg.matrix_norm(taken, 2) < 1.5


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-30, 1.0, 1e30])
def test_roots_of_any_size_are_finite(scale: float) -> None:
    for matrix in (torch.eye(4), torch.ones(4, 4), draw(4, 4, seed=4) + draw(4, 4, seed=4).T):
        assert all(x.isfinite().all() for x in F.roots(scale * matrix))
    root, _ = F.roots(scale * torch.eye(4))
    torch.testing.assert_close(root, torch.eye(4) * scale**0.5, rtol=1e-4, atol=0)
    assert F.roots(torch.full((2, 2), torch.nan))[0].isnan().all()


def gaussians(seed: int, positions: int = 50, dtype: torch.dtype = torch.float32) -> Moments:
    x = draw(1, 24, positions, 1, seed=seed, dtype=dtype).relu() * torch.logspace(0, -3, 24, dtype=dtype).view(-1, 1, 1)
    return F.moments(x)


@pytest.mark.parametrize("positions", [10, 50])
def test_the_distance_is_bounded_from_above(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(8):
        x, y = gaussians(seed, positions), gaussians(seed + 50 if seed else 0, positions)
        wide = (Moments(*(part.double() for part in moments.flatten())) for moments in (x, y))
        exact = float(wasserstein_distance(*wide))
        with monkeypatch.context() as patch:
            patch.setattr(wasserstein, "DECOMPOSES", ())
            bound = float(wasserstein_distance(x, prepared(y)))
        assert exact - 1e-5 < bound < exact + 5e-3


@pytest.mark.parametrize(("least", "tolerance"), [(-1, 1e-4), (-2, 2e-2), (-3, 0.2)])
def test_its_gradient_is_autograds_through_the_decomposition(
    least: int, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but in the directions of features that hardly vary beside others."""
    scales = torch.logspace(0, least, 24, dtype=torch.float64).view(-1, 1, 1)
    target = prepared(F.moments(draw(1, 24, 60, 1, seed=1, dtype=torch.float64) * scales))
    features = (draw(1, 24, 60, 1, seed=2, dtype=torch.float64) * scales + 0.1).requires_grad_()
    x = F.moments(features)
    values = torch.linalg.eigh(target.root.T @ x.covariance @ target.root)[0]
    distance = (x.mean - target.mean).square().sum() + x.covariance.trace() + target.variance - 2 * values.sqrt().sum()
    (expected,) = torch.autograd.grad(distance / target.least, features, retain_graph=True)
    monkeypatch.setattr(wasserstein, "DECOMPOSES", ())
    (found,) = torch.autograd.grad(wasserstein_distance(x, target), features)
    assert difference(found, expected) < tolerance


@pytest.mark.slow
def test_pictures_are_as_good(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are judged by the distance with decompositions."""
    judged = []
    for decomposes in (("cpu",), ()):
        settings: dict[str, Any] = {"style_distance": "wasserstein", "content_weight": 0.1, "optimizer": LaplacianAdam}
        model = StyleTransfer("compact", **settings)
        with monkeypatch.context() as patch:
            patch.setattr(wasserstein, "DECOMPOSES", decomposes)
            made = run(model, PictureData(InputPath(pair[0]), InputPath(pair[1]), Pixels(64), steps=60))
        with torch.no_grad():
            sums = made.objective.sums(made.values())
            judged.append([float(sums[name]) for name in ("style", "content")])
    assert judged[1] == pytest.approx(judged[0], rel=0.03)
