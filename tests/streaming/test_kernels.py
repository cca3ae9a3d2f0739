"""Tests of the operations by hand: torch's own are the reference, also where values are equal or operators missing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from nst.network.architecture import Padding
from nst.streaming import kernels
from nst.streaming.kernels import Convolution, mask, max_pool, max_pool_gradient

TYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


@pytest.fixture(params=["as it is", "no operators", "packed", "no oneDNN"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The ways that a processor, or a version of torch, may have."""
    probes = (kernels.packs, kernels.has_onednn, kernels.gates)
    if request.param == "no operators":
        monkeypatch.setattr(kernels, "_pack", missing)
        monkeypatch.setattr(torch.ops.aten.threshold_backward, "grad_input", missing)
    if request.param in ("packed", "no operators"):
        monkeypatch.setattr(kernels, "_has_wide_vectors", lambda: True)
    if request.param == "no oneDNN":
        monkeypatch.setattr(kernels, "packs", lambda dtype: False)
        monkeypatch.setattr(kernels, "has_onednn", lambda dtype: False)
    for probe in probes:
        probe.cache_clear()
    yield
    for probe in probes:
        probe.cache_clear()


def missing(*_: object, **__: object) -> None:
    raise AttributeError("'_OpNamespace' object has no attribute '_reorder_convolution_weight'")


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("padding", ["zeros", "replicate", "circular"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_convolution_and_its_gradient_are_torchs(padding: Padding, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(24, 16, 3, 3, generator=generator) / 12, torch.randn(24, generator=generator)
    x = torch.randn(1, 16, 9, 7, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
    wide = x.double().requires_grad_()
    around = nnf.pad(wide, (1, 1, 1, 1), mode="constant" if padding == "zeros" else padding)
    expected = nnf.conv2d(around, weight.to(dtype).double(), bias.to(dtype).double())
    gradient = torch.randn(expected.shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
    (below,) = torch.autograd.grad(expected, wide, gradient.double())
    convolution = Convolution(weight, bias, padding, dtype)
    tolerance = {torch.bfloat16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]  # several roundings of dtype
    for relu in (False, True):
        found = convolution.forward(x, relu).double()
        torch.testing.assert_close(found, expected.relu() if relu else expected, rtol=tolerance, atol=tolerance)
    found = convolution.backward(gradient, x).double()
    torch.testing.assert_close(found, below, rtol=tolerance, atol=3 * tolerance)


def few_values(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Draws activations of few different values, so that many neighbours are equal and many are 0, of either sign."""
    drawn = torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(0))
    signed = torch.where(drawn == -1, -0.0, drawn.relu() / 7)  # some ReLUs make a negative zero of what is negative
    return signed.to(dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.usefixtures("ways")
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


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("dtype", TYPES)
def test_a_mask_is_the_gradient_of_a_relu(dtype: torch.dtype) -> None:
    y = few_values((1, 3, 4, 5), dtype)
    gradient = torch.randn(y.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    expected = torch.where(y > 0, gradient, 0)
    mask(gradient, y)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=0)
