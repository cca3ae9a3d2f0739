"""The mathematics against closed forms, an independent NumPy reference and numerical gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nst import functional as F


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


def test_moments_add_up_over_blocks() -> None:
    x = features(0, 1, 5, 6, 7)
    whole, left, right = F.moments(x), F.moments(x[..., :3]), F.moments(x[..., 3:])
    for one, two, both in zip(left, right, whole, strict=True):
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
    assert F.gram_distance(F.moments(x), F.moments(a)).item() == pytest.approx(relative, rel=1e-12)


def test_gatys_style_is_the_papers_sum_where_sizes_agree() -> None:
    x, a = features(1, 1, 4, 5, 6), features(2, 1, 4, 5, 6)
    n, m = 4, 30
    gram, target = (np.einsum("nihw,njhw->ij", y.numpy(), y.numpy()) for y in (x, a))
    paper = ((gram - target) ** 2).sum() / (4 * n**2 * m**2)
    assert F.gram_distance(F.moments(x), F.moments(a), "gatys").item() == pytest.approx(paper, rel=1e-12)


def test_gatys_content_is_half_the_squared_error() -> None:
    x, p = features(1, 1, 4, 5, 6), features(2, 1, 4, 5, 6)
    error = F.squared_error(x, p)
    assert F.content_distance(error, torch.tensor(7.0), "gatys").item() == pytest.approx(
        0.5 * ((x - p) ** 2).sum().item(), rel=1e-12
    )
    assert F.content_distance(error, torch.tensor(2.0)).item() == pytest.approx(error.item() / 2)


def test_relative_losses_of_nothing_are_one() -> None:
    p = features(3, 1, 4, 5, 6)
    zero = torch.zeros_like(p)
    energy = F.squared_error(p, zero)
    assert F.content_distance(F.squared_error(zero, p), energy).item() == pytest.approx(1)
    assert F.gram_distance(F.moments(zero), F.moments(p)).item() == pytest.approx(1)


def test_total_variation_in_closed_form() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 3, 2, 4) * 0.5
    assert F.total_variation(ramp, "l1").item() == pytest.approx(3 * 2 * 3 * 0.5)
    assert F.total_variation(ramp, "l2").item() == pytest.approx(3 * 2 * 3 * 0.25)
    assert F.total_variation(torch.ones(1, 3, 4, 4)).item() == 0


@pytest.mark.parametrize("normalization", ["relative", "gatys"])
def test_gradients_agree_with_finite_differences(normalization: F.Normalization) -> None:
    x = features(4, 1, 3, 4, 4).requires_grad_()
    target = F.moments(features(5, 1, 3, 4, 4))
    photograph = features(6, 1, 3, 4, 4)
    assert torch.autograd.gradcheck(lambda y: F.gram_distance(F.moments(y), target, normalization), x)
    energy = photograph.square().sum()
    assert torch.autograd.gradcheck(
        lambda y: F.content_distance(F.squared_error(y, photograph), energy, normalization), x
    )
    assert torch.autograd.gradcheck(lambda y: F.total_variation(y, "l2"), x)
    assert torch.autograd.gradcheck(lambda y: F.total_variation(y, "l1"), x)
