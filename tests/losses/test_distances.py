"""Every style distance, by the registry: a new one needs no test of its own to be held to these."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nst.errors import InputError
from nst.losses.distance import DISTANCES
from nst.losses.distances.histogram import EDGES, Histogram
from nst.losses.layers import StyleLoss, described

pytestmark = pytest.mark.parametrize("name", DISTANCES)


def features(seed: int, height: int, width: int) -> Tensor:
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * x + 0.5).contiguous(memory_format=torch.channels_last)


def guide(height: int, width: int) -> Tensor:
    return torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def test_statistics_add_up_over_blocks(name: str) -> None:
    distance, x, weights = DISTANCES[name](), features(1, 5, 7), guide(5, 7)
    for whole, parts in (
        (distance.statistics(x), [distance.statistics(x[:, :, rows]) for rows in (slice(2), slice(2, None))]),
        (
            distance.statistics(x, weights),
            [distance.statistics(x[:, :, rows], weights[:, :, rows]) for rows in (slice(2), slice(2, None))],
        ),
    ):
        for one, other in zip(whole.flatten(), (parts[0] + parts[1]).flatten(), strict=True):
            torch.testing.assert_close(one, other)


def test_it_is_nothing_for_equal_statistics_and_more_for_others(name: str) -> None:
    distance = DISTANCES[name]()
    own, other = (distance.statistics(features(seed, 5, 7)) for seed in (1, 2))
    assert float(distance.distance(own, distance.prepare(own))) == pytest.approx(0, abs=1e-6)
    assert float(distance.distance(own, distance.prepare(other))) > 1e-3


def test_positions_of_no_weight_count_for_nothing(name: str) -> None:
    distance, x = DISTANCES[name](), features(1, 5, 7)
    left = torch.zeros(1, 1, 5, 7, dtype=torch.float64)
    left[..., :3] = 1
    found, wanted = distance.statistics(x, left), distance.statistics(x[..., :3])
    for one, other in zip(found.flatten(), wanted.flatten(), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("guided", [False, True])
def test_its_gradient_is_that_of_differences(name: str, guided: bool) -> None:
    distance, weights = DISTANCES[name](), guide(4, 5) if guided else None
    wanted = distance.prepare(distance.statistics(features(2, 6, 5)))
    x = features(1, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: distance.distance(distance.statistics(y, weights), wanted), x, atol=1e-4)


@pytest.mark.parametrize("guided", [False, True])
def test_the_gradient_that_is_added_is_autograds(name: str, guided: bool) -> None:
    distance, weights, x = DISTANCES[name](), guide(4, 5) if guided else None, features(1, 4, 5)
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    found = distance.statistics(leaf, weights)
    loose = found.unflatten([tensor.detach().requires_grad_() for tensor in found.flatten()])
    wanted = distance.prepare(distance.statistics(features(2, 6, 5)))
    value = distance.distance(loose, wanted)
    cotangent = found.unflatten(torch.autograd.grad(value, loose.flatten(), allow_unused=True))
    (expected,) = torch.autograd.grad(distance.distance(found, wanted), leaf)
    start = torch.ones_like(x, memory_format=torch.channels_last)
    distance.add_gradient(start, x, cotangent, weights)
    torch.testing.assert_close(start - 1, expected, rtol=1e-9, atol=1e-12)


def test_it_is_known_by_its_name(name: str) -> None:
    assert f"`{name}`, " in described()
    assert type(StyleLoss(distance=name).distance) is DISTANCES[name]
    with pytest.raises(InputError, match=rf"Expected --model.style_distance to be one of .*but got {name}x"):
        StyleLoss(distance=f"{name}x")


def test_histograms_count_what_lies_between_two_edges_for_both(name: str) -> None:
    if name != Histogram.name:
        pytest.skip("histograms alone")
    low, high = (float(EDGES[i]) for i in (14, 15))
    x = torch.tensor([0.0, low, low + 0.25 * (high - low), 1e6]).view(1, 1, 2, 2).double()
    counts = Histogram().statistics(x).counts[0]
    expected = torch.zeros(len(EDGES), dtype=torch.float64)
    expected[12], expected[14], expected[15], expected[-1] = 1, 1.75, 0.25, 1
    torch.testing.assert_close(counts, expected, rtol=1e-5, atol=1e-5)  # the edges are float32
