"""Tests of the ways to convolve: torch's own convolution in float64 and autograd are the reference of all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as nnf

from nst.network.architecture import Padding
from nst.streaming import convolutions, plan
from nst.streaming.convolutions import KEPT, LAST, PLANAR, Convolution, Method, has_winograd, layout_for

PROBES = (convolutions.packs, convolutions.has_onednn, convolutions.has_winograd)


@pytest.fixture(params=["as it is", "no operators", "no oneDNN"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The ways that a processor, or a version of torch, may have."""
    if request.param == "no operators":
        monkeypatch.setattr(convolutions.Packed, "lay_out", missing)
        monkeypatch.delattr(torch, "_nnpack_spatial_convolution")
    if request.param == "no oneDNN":
        monkeypatch.setattr(convolutions, "packs", lambda dtype: False)
        monkeypatch.setattr(convolutions, "has_onednn", lambda dtype: False)
    for probe in PROBES:
        probe.cache_clear()
    yield
    for probe in PROBES:
        probe.cache_clear()


def missing(*_: object, **__: object) -> None:
    raise AttributeError("'_OpNamespace' object has no attribute '_reorder_convolution_weight'")


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("padding", ["zeros", "replicate", "circular"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [(16, 24), (64, 48), (3, 64), (96, 100)])
@pytest.mark.parametrize("size", [(9, 7), (50, 41), (13, 18)])
def test_a_convolution_and_its_gradient_are_torchs(
    padding: Padding, dtype: torch.dtype, channels: tuple[int, int], size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    few, many = channels
    weight, bias = torch.randn(many, few, 3, 3, generator=generator) / few**0.5 / 3, torch.randn(many)
    convolution = Convolution(weight, bias, padding, dtype)
    layout = layout_for([convolution], *size)
    x = torch.randn(1, few, *size, generator=generator).to(dtype).contiguous(memory_format=layout)
    wide = x.double().requires_grad_()
    around = nnf.pad(wide, (1, 1, 1, 1), mode="constant" if padding == "zeros" else padding)
    expected = nnf.conv2d(around, weight.to(dtype).double(), bias.to(dtype).double())
    gradient = torch.randn(expected.shape, generator=generator).to(dtype).contiguous(memory_format=layout)
    (below,) = torch.autograd.grad(expected, wide, gradient.double())
    tolerance = {torch.bfloat16: 2e-2, torch.float32: 1e-4, torch.float64: 1e-12}[dtype]  # several roundings of dtype
    for relu in (False, True):
        found = convolution.forward(x, relu, layout)
        assert found.is_contiguous(memory_format=layout)
        torch.testing.assert_close(
            found.double(), expected.relu() if relu else expected, rtol=tolerance, atol=tolerance
        )
    found = convolution.backward(gradient, x, layout)
    assert found.is_contiguous(memory_format=layout)
    torch.testing.assert_close(found.double(), below, rtol=tolerance, atol=8 * tolerance)


@pytest.mark.parametrize(
    ("channels", "dtype", "size", "method", "layout"),
    [
        ([(3, 64), (64, 64)], torch.float32, (64, 64), "winograd", PLANAR),
        ([(64, 96), (96, 96)], torch.float32, (30, 50), "winograd", PLANAR),
        ([(64, 96), (96, 96)], torch.float32, (30, 49), "winograd", LAST),  # few positions
        ([(64, 96), (96, 32)], torch.float32, (64, 64), "winograd", LAST),  # few channels
        ([(64, 96), (96, 96)], torch.bfloat16, (64, 64), "auto", LAST),
        ([(64, 96), (96, 96)], torch.float32, (64, 64), "direct", LAST),
    ],
)
@pytest.mark.skipif(not has_winograd(), reason="NNPACK does not run on this processor")
def test_winograds_method_is_chosen_by_channels_size_and_type(
    channels: list[tuple[int, int]],
    dtype: torch.dtype,
    size: tuple[int, int],
    method: Method,
    layout: torch.memory_format,
) -> None:
    found = [Convolution(torch.zeros(b, a, 3, 3), torch.zeros(b), "zeros", dtype, method) for a, b in channels]
    assert layout_for(found, *size) is layout


@pytest.mark.parametrize("margin", [0, 1, 2])
@pytest.mark.parametrize("size", [(4, 4), (5, 9), (12, 7)])
def test_our_winograd_convolves_as_torch_does(margin: int, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, *size, generator=generator).contiguous(memory_format=LAST)
    weight, bias = torch.randn(7, 5, 3, 3, generator=generator), torch.randn(7, generator=generator)
    way = convolutions.WINOGRAD
    for given in (bias, None):
        expected = nnf.conv2d(x, weight, given, padding=margin)
        found = way.convolve(x, way.lay_out(weight, x.shape), given, margin, relu=False)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert found.is_contiguous(memory_format=LAST)
    relu = way.convolve(x, way.lay_out(weight, x.shape), bias, margin, relu=True)
    torch.testing.assert_close(relu, nnf.conv2d(x, weight, bias, padding=margin).relu(), rtol=1e-4, atol=1e-4)


def test_a_convolution_keeps_the_weights_of_the_latest_sizes_alone() -> None:
    convolution = Convolution(torch.randn(16, 16, 3, 3), torch.zeros(16), "zeros", torch.float32)
    for side in range(4, 10):
        convolution.forward(torch.zeros(1, 16, side, side), True)
    assert len(convolution._laid_out[False]) <= KEPT
    assert not convolution._laid_out[True]


@pytest.mark.skipif(not has_winograd(), reason="NNPACK does not run on this processor")
def test_winograds_method_is_left_where_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_nnpack_spatial_convolution", lambda x, weight, bias, margin: torch.zeros_like(x))
    has_winograd.cache_clear()
    assert not has_winograd()
    assert plan.usable("winograd") == "direct"
    monkeypatch.undo()
    has_winograd.cache_clear()
    assert plan.usable("winograd") == "winograd"


@pytest.mark.skipif(not has_winograd(), reason="NNPACK does not run on this processor")
def test_whether_nnpack_runs_does_not_depend_on_where_it_is_asked() -> None:
    has_winograd.cache_clear()
    with torch.autocast("cpu", torch.bfloat16):
        assert has_winograd()
