"""A step on a device that is not the CPU never waits for it: whole runs on one that refuses to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nst.losses.distance import DISTANCES
from nst.machine import numerics
from nst.optimise import guard
from nst.optimise.module import StyleTransfer
from nst.optimise.optimizers import LaplacianAdam
from nst.scene.data import PictureData
from nst.scene.styles import Region, Style
from nst.types import InputPath, Pixels
from tests.devices import AWAY, Device, Unwaited, unwaited
from tests.helpers import run


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    monkeypatch.setattr(numerics, "SINGLE", (*numerics.SINGLE, AWAY.type))
    with Device():
        yield AWAY


class Abroad(StyleTransfer):
    """A StyleTransfer that lies on the made-up device, to which Lightning cannot bring it."""

    def configure_optimizers(self) -> Any:
        self._device = AWAY
        assert self.features is not None
        self.features.to(AWAY)
        # a Parameter of a wrapper would be a copy
        self._parameters["picture"] = self.picture.detach().to(AWAY).requires_grad_()  # type: ignore[assignment]
        for name, buffer in self.named_buffers(recurse=False):
            setattr(self, name, buffer.to(AWAY))
        return super().configure_optimizers()

    def cpu(self) -> Abroad:
        """Stays where it is at the end of the run: Lightning could not move a wrapper either."""
        return self


def abroad(data: PictureData, **settings: Any) -> StyleTransfer:
    watch = Unwaited(unwaited)
    made = run(Abroad("compact", **settings), data, callbacks=[watch])
    assert watch.kinds == [AWAY.type] * data.levels[0].steps
    assert made.shown.device == AWAY and made.shown.cpu().isfinite().all()
    return made


def looked(pair: tuple[Path, Path], **settings: Any) -> PictureData:
    return PictureData(InputPath(pair[0]), settings.pop("style", InputPath(pair[1])), Pixels(32), steps=8, **settings)


FEW = {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0}
STARRY: dict[str, Any] = {"correspondence_weight": 0.3, "structure_weight": 0.1, "average": 0.9, "bleed": 8}
STARRY |= {"tv_weight": 0.05, "optimizer": LaplacianAdam}


def test_whoever_waits_is_found(pair: tuple[Path, Path], device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "AT_ONCE", ("cpu", AWAY.type))
    with pytest.raises(AssertionError, match=r"_local_scalar_dense.default waits for the device"):
        abroad(looked(pair), style_layers=FEW)
    x = torch.ones(3).to(device)
    with unwaited():
        assert x.to("cpu", non_blocking=True).device.type == "cpu"
        for wait in (lambda: x.cpu(), lambda: torch.ones(3).to(device), lambda: x[x > 0], lambda: x + torch.ones(3)):
            with pytest.raises(AssertionError, match=r"waits for the device|of the CPU"):
                wait()


@pytest.mark.parametrize("distance", DISTANCES)
def test_each_style_distance(distance: str, pair: tuple[Path, Path], device: torch.device) -> None:
    abroad(looked(pair), style_distance=distance, style_layers=FEW)


def test_all_terms_and_the_coarse_view(pair: tuple[Path, Path], device: torch.device) -> None:
    abroad(looked(pair, afar=Pixels(24), min_improvement=0.01), **STARRY, style_layers=FEW)


def test_a_picture_that_tiles(pair: tuple[Path, Path], device: torch.device) -> None:
    abroad(looked(pair, tile=True), padding="circular", style_layers=FEW)


def test_regions(pair: tuple[Path, Path], device: torch.device) -> None:
    left = Image.new("L", (48, 40))
    left.paste(255, (0, 0, 20, 40))
    left.save("left.png")
    left.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("right.png")
    regions = {"a": Region(InputPath("left.png")), "b": Region(InputPath("right.png"), keep=True)}
    styles = [Style(InputPath(pair[1]), region="a"), Style(InputPath(pair[1]), weight=2.0)]
    abroad(looked(pair, style=styles, regions=regions), **STARRY, style_layers=FEW)
