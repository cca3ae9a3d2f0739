"""The mathematics against closed forms, an independent NumPy reference and numerical gradients."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch

from nst.losses import functional as F
from nst.losses.distance import Normalization
from nst.losses.distances.frobenius import gram_distance
from nst.losses.distances.mean_std import mean_std_distance
from nst.losses.distances.wasserstein import factor, prepared, wasserstein_distance
from nst.losses.layers import content_distance
from nst.losses.statistics import Moments


def features(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_moments_are_the_sums_over_positions() -> None:
    x = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    statistics = F.moments(x)
    assert statistics.outer.tolist() == [[5.0, 11.0], [11.0, 25.0]]
    assert statistics.total.tolist() == [3.0, 7.0]
    assert statistics.positions.item() == 2
    assert torch.equal(statistics.mean, torch.tensor([1.5, 3.5]))
    assert torch.equal(statistics.covariance, torch.tensor([[0.25, 0.25], [0.25, 0.25]]))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("guided", [False, True])
def test_gradients_of_moments_are_autograds_in_any_layout(
    layout: torch.memory_format, channels: int, guided: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, channels, 8, 7, generator=generator, dtype=torch.float64).contiguous(memory_format=layout)
    guide = torch.rand(1, 1, 8, 7, generator=generator, dtype=torch.float64) if guided else None
    leaf = features.clone().requires_grad_()
    found = F.moments(leaf, True, guide)
    given = [torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (found.outer, found.total)]
    (expected,) = torch.autograd.grad([found.outer, found.total], leaf, given)
    rows = slice(2, 6)  # a band's own rows, as a view
    gradient = torch.ones_like(features)
    weights = None if guide is None else guide[:, :, rows]
    F.add_moments_gradient(gradient[:, :, rows], features[:, :, rows], given[0], given[1], weights)
    torch.testing.assert_close(gradient[:, :, rows], 1 + expected[:, :, rows])
    assert bool((gradient[:, :, :2] == 1).all())


def test_moments_add_up_over_blocks() -> None:
    x = features(0, 1, 5, 6, 7)
    whole, left, right = F.moments(x), F.moments(x[..., :3]), F.moments(x[..., 3:])
    for one, two, both in zip(left.flatten(), right.flatten(), whole.flatten(), strict=True):
        torch.testing.assert_close(one + two, both)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_are_summed_in_float32(dtype: torch.dtype) -> None:
    x = torch.full((1, 2, 64, 64), 8.0, dtype=dtype)  # 64 * 4096 is past float16's 65504
    statistics = F.moments(x)
    assert statistics.outer.dtype == torch.float32
    assert statistics.outer[0, 1].item() == 64 * 4096


def test_autocast_does_not_reach_the_sums() -> None:
    x = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        inside = F.moments(x).outer
    assert torch.equal(inside, F.moments(x).outer)


def test_gram_distance_against_numpy() -> None:
    x, a = features(1, 1, 4, 5, 6), features(2, 1, 4, 3, 7)
    gram = np.einsum("nihw,njhw->ij", x.numpy(), x.numpy()) / 30
    target = np.einsum("nihw,njhw->ij", a.numpy(), a.numpy()) / 21
    relative = ((gram - target) ** 2).sum() / (target**2).sum()
    assert gram_distance(F.moments(x), F.moments(a)).item() == pytest.approx(relative, rel=1e-12)


def test_gatys_style_is_the_papers_sum_where_sizes_agree() -> None:
    x, a = features(1, 1, 4, 5, 6), features(2, 1, 4, 5, 6)
    n, m = 4, 30
    gram, target = (np.einsum("nihw,njhw->ij", y.numpy(), y.numpy()) for y in (x, a))
    paper = ((gram - target) ** 2).sum() / (4 * n**2 * m**2)
    assert gram_distance(F.moments(x), F.moments(a), "gatys").item() == pytest.approx(paper, rel=1e-12)


def test_gatys_content_is_half_the_squared_error() -> None:
    x, p = features(1, 1, 4, 5, 6), features(2, 1, 4, 5, 6)
    error = F.squared_error(x, p)
    assert content_distance(error, torch.tensor(7.0), "gatys").item() == pytest.approx(
        0.5 * ((x - p) ** 2).sum().item(), rel=1e-12
    )
    assert content_distance(error, torch.tensor(2.0)).item() == pytest.approx(error.item() / 2)


def test_relative_losses_of_nothing_are_one() -> None:
    p = features(3, 1, 4, 5, 6)
    zero = torch.zeros_like(p)
    energy = F.squared_error(p, zero)
    assert content_distance(F.squared_error(zero, p), energy).item() == pytest.approx(1)
    assert gram_distance(F.moments(zero), F.moments(p)).item() == pytest.approx(1)


def test_total_variation_in_closed_form() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 3, 2, 4) * 0.5
    assert F.total_variation(ramp, "l1").item() == pytest.approx(3 * 2 * 3 * 0.5)
    assert F.total_variation(ramp, "l2").item() == pytest.approx(3 * 2 * 3 * 0.25)
    assert F.total_variation(torch.ones(1, 3, 4, 4)).item() == 0


@pytest.mark.parametrize("normalization", ["relative", "gatys"])
def test_gradients_agree_with_finite_differences(normalization: Normalization) -> None:
    x = features(4, 1, 3, 4, 4).requires_grad_()
    target = F.moments(features(5, 1, 3, 4, 4))
    photograph = features(6, 1, 3, 4, 4)
    assert torch.autograd.gradcheck(lambda y: gram_distance(F.moments(y), target, normalization), x)
    energy = photograph.square().sum()
    assert torch.autograd.gradcheck(
        lambda y: content_distance(F.squared_error(y, photograph), energy, normalization), x
    )
    assert torch.autograd.gradcheck(lambda y: F.total_variation(y, "l2"), x)
    assert torch.autograd.gradcheck(lambda y: F.total_variation(y, "l1"), x)


def gaussian(seed: int, channels: int, positions: int) -> Moments:
    return F.moments(features(seed, 1, channels, 1, positions))


@pytest.mark.parametrize("positions", [200, 6])  # 6 positions leave a covariance of 8 channels singular
def test_wasserstein_against_scipys_matrix_root(positions: int) -> None:
    x, a = gaussian(1, 8, positions), gaussian(2, 8, 150)
    s, t = x.covariance.numpy(), a.covariance.numpy()
    root = scipy.linalg.sqrtm(t)
    cross = np.sqrt(np.linalg.eigvalsh(root @ s @ root).clip(0)).sum()
    if positions > 8:
        assert cross == pytest.approx(np.trace(scipy.linalg.sqrtm(root @ s @ root)).real, rel=1e-9)
    shift = ((x.mean - a.mean) ** 2).sum().item()
    expected = (shift + np.trace(s) + np.trace(t) - 2 * cross) / np.trace(t)
    assert wasserstein_distance(x, a).item() == pytest.approx(expected, rel=1e-6)
    assert wasserstein_distance(x, prepared(a)).item() == wasserstein_distance(x, a).item()


def test_wasserstein_of_commuting_covariances_in_closed_form() -> None:
    s, t = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64), torch.tensor([1.0, 9.0, 0.0], dtype=torch.float64)
    shift = torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64)
    one = torch.tensor(1.0, dtype=torch.float64)
    x = Moments(one, torch.diag(s) + torch.outer(shift, shift), shift)
    a = Moments(one, torch.diag(t), torch.zeros(3, dtype=torch.float64))
    expected = (5.0 + ((s.sqrt() - t.sqrt()) ** 2).sum()) / t.sum()
    assert wasserstein_distance(x, a).item() == pytest.approx(expected.item(), rel=1e-9)


def test_equal_moments_are_at_no_distance() -> None:
    for positions in (200, 3):
        x = gaussian(1, 8, positions)
        assert wasserstein_distance(x, x).item() == pytest.approx(0, abs=1e-6)
        assert mean_std_distance(x, x).item() == 0
        single = x.unflatten([part.float() for part in x.flatten()])
        assert wasserstein_distance(single, single).item() == pytest.approx(0, abs=2e-3)  # float32 roots


def test_factor_has_the_targets_rank() -> None:
    covariance = gaussian(3, 8, 4).covariance
    root = factor(covariance)
    assert root.shape == (8, 3)
    torch.testing.assert_close(root @ root.T, covariance)


def test_mean_std_against_numpy() -> None:
    x, a = features(1, 1, 4, 5, 6), features(2, 1, 4, 3, 7)
    m, s, mt, st = (f(y.numpy(), axis=(0, 2, 3)) for y in (x, a) for f in (np.mean, np.std))
    expected = (((m - mt) ** 2) + ((s - st) ** 2)).sum() / (mt**2 + st**2).sum()
    assert mean_std_distance(F.moments(x), F.moments(a)).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("distance", [wasserstein_distance, mean_std_distance])
@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (1, 5, 1, 4)])  # the second is singular: 4 positions, 5 channels
def test_gradients_of_other_distances(distance: Any, shape: tuple[int, ...]) -> None:
    x = features(4, *shape).requires_grad_()
    target = F.moments(features(5, 1, shape[1], 6, 6))
    # a root of rounding is 1e-8, so the differences are taken over a wider step
    assert torch.autograd.gradcheck(lambda y: distance(F.moments(y), target), x, eps=1e-4, atol=1e-3)


def test_wasserstein_gradient_is_the_formula() -> None:
    """For the covariance it is (I - R (R S R)^(-1/2) R) / tr T with R = T^(1/2)."""
    a, x = gaussian(2, 5, 90), gaussian(1, 5, 80)
    outer = x.outer.clone().requires_grad_()
    zero = torch.zeros_like(x.total)
    (gradient,) = torch.autograd.grad(wasserstein_distance(Moments(x.positions, outer, zero), a), outer)
    s, r = (x.outer / x.positions).numpy(), scipy.linalg.sqrtm(a.covariance.numpy())
    inner = np.linalg.inv(scipy.linalg.sqrtm(r @ s @ r))
    expected = (np.eye(5) - r @ inner @ r) / np.trace(a.covariance.numpy()) / x.positions.item()
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_dead_channels_leave_wasserstein_finite() -> None:
    x = features(1, 1, 6, 5, 5).float()
    x[:, 2:4] = 0
    x.requires_grad_()
    target = F.moments(features(2, 1, 6, 7, 7).float())
    wasserstein_distance(F.moments(x), target).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_total_variation_may_wrap_around(norm: F.Norm) -> None:
    x = features(1, 1, 3, 4, 5)
    tiled = x.repeat(1, 1, 2, 2)[..., :5, :6]
    down, right = (tiled.diff(dim=2)[..., :5], tiled.diff(dim=3)[..., :4, :])
    expected = sum(y.abs().sum() if norm == "l1" else y.square().sum() for y in (down, right))
    torch.testing.assert_close(F.total_variation(x, norm, wrap=True), expected)
    shifted = F.total_variation(x.roll((1, 2), (2, 3)), norm, wrap=True)
    torch.testing.assert_close(shifted, F.total_variation(x, norm, wrap=True))
    assert not torch.allclose(F.total_variation(x, norm, wrap=True), F.total_variation(x, norm))


def seam_excess(picture: torch.Tensor, rows: int) -> torch.Tensor:
    """The excess of a picture whose rows are summed some at a time."""
    height, width = picture.shape[2:]
    sums = []
    for top in range(0, height, rows):
        last = top + rows >= height
        below = picture[:, :, [0 if last else top + rows]]
        sums.append(F.seam_sums(picture[:, :, top : top + rows], below, last))
    return F.seam_excess(reduce(operator.add, sums), height, width)


@pytest.mark.parametrize("rows", [2, 4, 9])
def test_seam_excess(rows: int) -> None:
    x = torch.rand(1, 3, 9, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    a = x.detach().numpy()
    down, right = np.square(np.diff(a, axis=2)).mean(), np.square(np.diff(a, axis=3)).mean()
    seams = np.square(a[:, :, 0] - a[:, :, -1]).mean(), np.square(a[..., 0] - a[..., -1]).mean()
    expected = sum(max(0, seam / (0.9 * min(down, right)) - 1) for seam in seams)
    found = seam_excess(x, rows)
    assert found.item() == pytest.approx(expected)
    assert expected > 0
    (gradient,) = torch.autograd.grad(found, x)
    assert not gradient[:, :, 1:-1, 1:-1].any()
    smooth = torch.cat([x, x.flip(2)], dim=2)
    smooth = torch.cat([smooth, smooth.flip(3)], dim=3)  # nothing to step over at any border
    assert seam_excess(smooth, rows) == 0
    assert seam_excess(torch.full((1, 3, 4, 4), 0.5), rows) == 0


def test_a_decomposition_that_does_not_converge_is_made_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.linalg.eigh

    def stubborn(matrix: torch.Tensor) -> Any:
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("it does not converge")  # type: ignore[attr-defined]  # it is there
        return own(matrix)

    x, target = (F.moments(features(seed, 1, 5, 4, 6).float()) for seed in (1, 2))
    expected = wasserstein_distance(x, target)
    monkeypatch.setattr(torch.linalg, "eigh", stubborn)
    x.outer.requires_grad_()
    distance = wasserstein_distance(x, target)
    torch.testing.assert_close(distance, expected)
    (gradient,) = torch.autograd.grad(distance, x.outer)
    assert gradient.dtype == torch.float32 and torch.isfinite(gradient).all()


def test_a_decomposition_of_no_numbers_is_none() -> None:
    """So that a run whose picture is lost ends with its own words."""
    for x in (torch.full((3, 3), torch.nan), torch.full((3, 3), torch.inf)):
        assert all(part.isnan().all() for part in F.eigh(x))
    lost = F.moments(torch.full((1, 3, 4, 4), torch.nan))
    assert wasserstein_distance(lost, F.moments(features(1, 1, 3, 4, 4).float())).isnan()


def test_unknown_names_are_refused() -> None:
    x = F.moments(features(1, 1, 3, 4, 4))
    with pytest.raises(ValueError, match="relative or gatys, but got gatis"):
        gram_distance(x, x, "gatis")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="relative or gatys, but got gatis"):
        content_distance(x.positions, x.positions, "gatis")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="l1 or l2, but got l3"):
        F.total_variation(features(1, 1, 3, 4, 4), "l3")  # type: ignore[arg-type]
