"""Devices that lack what CPUs have: a step on one that refuses float64 and the decompositions of matrices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nst.losses import functional as F
from nst.losses.distance import DISTANCES
from nst.losses.distances import wasserstein
from nst.machine import numerics
from nst.machine.numerics import exact
from nst.optimise.module import StyleTransfer
from nst.optimise.targets import LevelScan
from nst.pictures.color import finished, to_lab
from nst.pictures.geometry import resample
from nst.scene.data import PictureData
from nst.streaming.scanner import Scanner
from nst.types import InputPath, Pixels, WeightsSource
from tests.devices import AWAY, Device
from tests.helpers import draw


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    monkeypatch.setattr(numerics, "SINGLE", (*numerics.SINGLE, AWAY.type))
    with Device():
        yield AWAY


def test_the_device_refuses_what_it_lacks(device: torch.device) -> None:
    x = torch.eye(3).to(device)
    assert x.device == device and float((x + 1).sum()) == 12
    with pytest.raises(AssertionError, match="no float64"):
        x.double()
    with pytest.raises(NotImplementedError, match="linalg_eigh"):
        torch.linalg.eigh(x)


def test_exact_is_float64_where_there_is_some(device: torch.device) -> None:
    for x in (torch.ones(3), torch.ones(3).to(device)):
        assert exact(x).dtype == torch.float64 and exact(x).device.type == "cpu"


def test_a_device_without_antialiasing_has_the_cpus(device: torch.device) -> None:
    x = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0))
    for mode, wrap in (("bicubic", False), ("bilinear", True)):
        found = resample(x.to(device), (6, 20), mode, wrap)
        assert found.device == device
        torch.testing.assert_close(found.cpu(), resample(x, (6, 20), mode, wrap))


def test_pictures_get_their_colours_back_on_the_device(device: torch.device) -> None:
    photograph, made = (torch.rand(1, 3, 16, 20, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    kept = torch.cat([photograph, (photograph[:, :1] > 0.5).float()], dim=1)
    expected = finished(made, to_lab(photograph), kept)
    torch.testing.assert_close(finished(made.to(device), to_lab(photograph), kept).cpu(), expected)


def test_eigh_goes_by_way_of_the_cpu(device: torch.device) -> None:
    x = torch.diag(torch.tensor([3.0, 1.0, 2.0]))
    values, vectors = F.eigh(x.to(device))
    assert values.device == vectors.device == device and values.dtype == torch.float32
    torch.testing.assert_close(values.cpu(), torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close((vectors * values @ vectors.T).cpu(), x)


def prepared(distance: str, place: torch.device | str, pooling: str, padding: str) -> tuple[StyleTransfer, Tensor]:
    """A run that is about to make its first step on a device, and the picture's gradient there."""
    photograph, painting = draw(Path("photo.png"), seed=1), draw(Path("painting.png"), (44, 52), seed=2)
    data = PictureData(InputPath(photograph), InputPath(painting), Pixels(32), steps=1, afar=Pixels(32))
    data.setup()
    settings: dict[str, Any] = {"style_distance": distance, "pooling": pooling, "padding": padding}
    model = StyleTransfer("compact", WeightsSource("imagenet"), tv_weight=0.1, style_layers=STYLE, **settings)
    model.prepare(data.levels)
    assert model.features is not None and model.coarse is not None
    network = model.features.to(place)
    model.scanner = Scanner(network, "auto")
    model.scan = LevelScan(network, model.scanner, 0, model.style_cache)
    model.coarse.scanner = model.scanner
    start = (0.9 * model.picture.detach()).to(place).requires_grad_()
    model._parameters["picture"] = start  # type: ignore[assignment]  # a Parameter of a wrapper would be a copy
    model.set_targets(data.levels[0])
    return model, start


STYLE = {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0}


@pytest.mark.parametrize(("pooling", "padding"), [("max", "zeros"), ("l2", "circular"), ("avg", "replicate")])
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_step_is_that_of_the_cpu(
    distance: str, pooling: str, padding: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, own = [], F.eigh
    monkeypatch.setattr(wasserstein, "DECOMPOSES", ())
    for place in ("cpu", device):
        # in float64 for both: the roots of small eigenvalues magnify the rounding of float32
        monkeypatch.setattr(F, "eigh", own if place == device else lambda x: [y.to(x) for y in own(x.double())])
        model, picture = prepared(distance, place, pooling, padding)
        total = model.objective.total(model.values())
        total.backward()
        assert picture.grad is not None and picture.grad.device.type == torch.device(place).type
        torch.optim.Adam([picture], lr=0.02).step()
        found.append((float(total.detach()), picture.grad.cpu(), picture.detach().cpu()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    largest = float(found[0][1].abs().max())
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-3, atol=1e-4 * largest)  # convolutions' orders
