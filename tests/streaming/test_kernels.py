"""Tests of pools and masks by hand: torch's own are the reference, also where values are equal or operators missing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.streaming import kernels
from nst.streaming.kernels import mask, max_pool, max_pool_gradient

TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


@pytest.fixture(params=["as it is", "no operators"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The versions of torch that there may be."""
    if request.param == "no operators":
        monkeypatch.setattr(torch.ops.aten.threshold_backward, "grad_input", missing)
    kernels.gates.cache_clear()
    yield
    kernels.gates.cache_clear()


def missing(*_: object, **__: object) -> None:
    raise AttributeError("'_OpNamespace' object has no attribute 'grad_input'")


def few_values(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format = torch.channels_last) -> Tensor:
    """Draws activations of few different values, so that many neighbours are equal and many are 0, of either sign."""
    drawn = torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(0))
    signed = torch.where(drawn == -1, -0.0, drawn.relu() / 7)  # some ReLUs make a negative zero of what is negative
    return signed.to(dtype).contiguous(memory_format=layout)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(8, 6), (7, 5), (2, 3), (9, 2)])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_max_pools_are_torchs_and_the_first_of_equals_gets_the_gradient(
    size: tuple[int, int], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    x = few_values((2, 5, *size), dtype, layout).requires_grad_()
    expected = nnf.max_pool2d(x, 2)
    gradient = torch.randn(expected.shape).to(dtype).contiguous(memory_format=layout)
    gradient[expected == 0] = 0  # where all of a window is 0, it does not matter which of it is the first
    (below,) = torch.autograd.grad(expected, x, gradient)
    for found, right in ((max_pool(x.detach()), expected), (max_pool_gradient(gradient, x.detach()), below)):
        torch.testing.assert_close(found, right, rtol=0, atol=0)
        assert found.is_contiguous(memory_format=layout)


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("dtype", TYPES)
def test_a_mask_is_the_gradient_of_a_relu(dtype: torch.dtype) -> None:
    y = few_values((1, 3, 4, 5), dtype)
    gradient = torch.randn(y.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    expected = torch.where(y > 0, gradient, 0)
    mask(gradient, y)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
