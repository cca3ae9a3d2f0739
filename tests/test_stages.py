"""Tests of pools and masks by hand: torch's own are the reference, also where values are equal."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.stages import mask, max_pool, max_pool_gradient

TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def few_values(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Draws activations of few different values, so that many neighbours are equal and many are 0, of either sign."""
    drawn = torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(0))
    signed = torch.where(drawn == -1, -0.0, drawn.relu() / 7)  # some ReLUs make a negative zero of what is negative
    return signed.to(dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(8, 6), (7, 5), (2, 3), (9, 2)])
def test_max_pools_are_torchs_and_the_first_of_equals_gets_the_gradient(
    size: tuple[int, int], dtype: torch.dtype
) -> None:
    x = few_values((2, 5, *size), dtype).requires_grad_()
    expected = nnf.max_pool2d(x, 2)
    gradient = torch.randn(expected.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    gradient[expected == 0] = 0  # where all of a window is 0, it does not matter which of it is the first
    (below,) = torch.autograd.grad(expected, x, gradient)
    torch.testing.assert_close(max_pool(x.detach()), expected, rtol=0, atol=0)
    torch.testing.assert_close(max_pool_gradient(gradient, x.detach()), below, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_mask_is_the_gradient_of_a_relu(dtype: torch.dtype) -> None:
    y = few_values((1, 3, 4, 5), dtype)
    gradient = torch.randn(y.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    expected = torch.where(y > 0, gradient, 0)
    mask(gradient, y)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
