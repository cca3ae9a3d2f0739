"""Pictures that hold next to nothing: one colour, black, white, a single line, a painting that a layer hardly sees."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nst.errors import InputError
from nst.losses import functional as F
from nst.losses.distances.wasserstein import LEAST_VARIANCE, wasserstein_distance
from nst.losses.layers import ContentLoss, ContentTarget, Distance, StyleLoss, StyleTarget
from nst.network import weights
from nst.network.architecture import Padding
from nst.network.features import Features
from nst.optimise.module import StyleTransfer
from nst.pictures.color import Matching
from nst.scene.data import PictureData
from nst.scene.styles import Region, Style
from nst.types import InputPath, Pixels, WeightsSource
from tests.helpers import draw, run

DISTANCES: tuple[Distance, ...] = ("frobenius", "wasserstein", "mean_std")
PADDINGS: tuple[Padding, ...] = ("zeros", "replicate", "reflect", "circular")
COLORS = {"black": "#000000", "white": "#ffffff", "flat": "#80402a"}
"""Pictures of one colour, by name; `drawn` is an ordinary one."""
MATCHINGS: tuple[Matching, ...] = ("symmetric", "pca", "cholesky")


class Watched(StyleTransfer):
    """Remembers its totals."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.totals: list[float] = []

    def training_step(self, *args: Any) -> Tensor:
        total = super().training_step(*args)
        self.totals.append(float(total.detach()) / self.picture.numel())
        return total


def paint(name: str, size: tuple[int, int]) -> Path:
    path = Path(f"{name}-{size[0]}-{size[1]}.png")
    if name in COLORS:
        Image.new("RGB", size, COLORS[name]).save(path)
        return path
    return draw(path, size, seed=3)


def totals(data: PictureData, init: str = "content", **settings: Any) -> list[float]:
    """Makes three steps and returns their totals; all of them, and the picture, have to be numbers."""
    model = Watched("compact", WeightsSource("imagenet"), init=init, **settings)
    shown = run(model, data).shown
    assert torch.isfinite(shown).all()
    assert len(model.totals) >= 3
    assert all(np.isfinite(x) and x >= -1e-6 for x in model.totals), model.totals
    return model.totals


def pictures(content: Path, style: Any, **settings: Any) -> PictureData:
    style = InputPath(style) if isinstance(style, Path) else style
    return PictureData(InputPath(content), style, Pixels(32), steps=3, **settings)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("distance", DISTANCES)
def test_pictures_of_one_colour(distance: Distance, padding: Padding) -> None:
    for content, style in (("flat", "flat"), ("drawn", "black"), ("white", "drawn")):
        data = pictures(paint(content, (32, 32)), paint(style, (40, 40)), tile=padding == "circular")
        assert max(totals(data, style_distance=distance, padding=padding)) < 1e5


@pytest.mark.parametrize(("init", "normalization"), product(("noise", "gray", "style"), ("relative", "gatys")))
def test_every_start_from_pictures_of_one_colour(init: str, normalization: Any) -> None:
    for style in COLORS:
        data = pictures(paint("white", (32, 32)), paint(style, (40, 36)), init=init)
        totals(data, init, normalization=normalization, style_distance="wasserstein", padding="replicate")


@pytest.mark.parametrize("color", ["content", "match", "histogram"])
def test_every_choice_of_colours_for_pictures_of_one_colour(color: Any) -> None:
    for (content, style), matching in zip(product(COLORS, ("drawn", "flat")), MATCHINGS * 2, strict=True):
        data = pictures(paint(content, (32, 32)), paint(style, (40, 36)), color=color, color_match=matching)
        totals(data, style_distance="mean_std", padding="replicate")
        assert torch.isfinite(data.finished(data.levels[0].content)).all()


@pytest.mark.parametrize("normalization", ["relative", "gatys"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_painting_that_deep_layers_see_as_one_position(distance: Distance, normalization: Any) -> None:
    data = pictures(paint("drawn", (32, 32)), paint("drawn", (16, 16)))
    totals(data, style_distance=distance, normalization=normalization)


def test_one_position_has_no_variance_and_a_finite_distance() -> None:
    x = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
    one = torch.full((1, 4, 1, 1), 0.5)
    target = F.moments(one)
    assert not target.covariance.any()
    distance = wasserstein_distance(F.moments(x), target)
    # |m - m_t|² + tr S, over the least share of the energy 4 · 0.5²
    expected = (x.mean((0, 2, 3)) - 0.5).square().sum() + x.var((0, 2, 3), correction=0).sum()
    torch.testing.assert_close(distance, expected / LEAST_VARIANCE, rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(distance, x)
    assert torch.isfinite(gradient).all() and gradient.any()


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_target_without_energy_leaves_an_absolute_distance(distance: Distance) -> None:
    x = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = StyleLoss(distance=distance)
    loss.set_targets([StyleTarget(F.moments(torch.zeros(1, 3, 4, 4)))])
    value = loss.value(loss.statistics(x))
    energy = x.square().mean((0, 2, 3)).sum()
    expected = F.moments(x).gram.square().sum() if distance == "frobenius" else energy
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=0)  # 1e-4: the least deviation that counts is 1e-6
    (gradient,) = torch.autograd.grad(value, x)
    assert torch.isfinite(gradient).all() and gradient.any()


def test_a_photograph_without_energy_leaves_the_mean_squared_error() -> None:
    x, loss = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(1)), ContentLoss()
    loss.set_target(ContentTarget(torch.zeros_like(x)))
    torch.testing.assert_close(loss.value(loss.statistics(x)), x.square().mean())


def test_rounding_is_no_variance() -> None:
    """A flat painting without a frame: what float32 sums leave of the variance is of either sign."""
    network = Features(weights.load("vgg16", "random:0"), ["relu1_1"], padding="replicate")
    target = F.moments(network(torch.full((1, 3, 64, 64), 0.31))["relu1_1"])
    other = F.moments(network(torch.full((1, 3, 48, 52), 0.31))["relu1_1"])
    assert abs(float(target.covariance.trace() / target.gram.trace())) < LEAST_VARIANCE / 4
    assert 0 <= float(wasserstein_distance(other, target)) < 0.2


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_part_of_a_painting_that_no_position_of_a_layer_sees(distance: Distance) -> None:
    mask = Image.new("L", (40, 33), 0)
    mask.paste(255, (0, 32, 40, 33))  # an odd row, which the first pool leaves out
    mask.save("row.png")
    style = [Style(InputPath(paint("drawn", (40, 33))), mask=InputPath("row.png"))]
    values = totals(pictures(paint("drawn", (32, 28)), style, style_scale=1.25), style_distance=distance)
    assert values[0] > 0  # of the layers before the pool


def test_a_part_of_a_painting_joins_others_where_it_is_seen() -> None:
    mask = Image.new("L", (40, 33), 0)
    mask.paste(255, (0, 32, 40, 33))
    mask.save("row.png")
    drawn, flat = InputPath(paint("drawn", (40, 33))), InputPath(paint("flat", (40, 33)))
    totals(pictures(paint("drawn", (32, 28)), [Style(drawn, mask=InputPath("row.png")), Style(flat)], style_scale=1.25))


def test_a_line_is_refused_in_one_line() -> None:
    for content, style, words in (
        ((2, 2000), (40, 36), "--data.content to be at least 8×8 pixels, but .* is 2×2000"),
        ((32, 32), (2000, 2), "--data.style to be at least 8×8 pixels, but .* is 2000×2"),
        ((9, 2000), (40, 36), "result of at least 8×8 pixels"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            pictures(paint("drawn", content), paint("drawn", style)).setup()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x1b[31m"])
def test_names_of_regions_can_be_printed(name: str) -> None:
    region = Region(InputPath("m.png"))
    with pytest.raises(InputError, match=f"names that can be printed, but got {re.escape(repr(name))}; rename it"):
        pictures(Path("a.png"), Path("b.png"), regions={name: region})


def test_a_style_of_an_empty_region_is_refused() -> None:
    with pytest.raises(InputError, match=r"data.style\[0\].region to be one of --data.regions, but got an empty name"):
        pictures(Path("a.png"), [Style(InputPath("b.png"), region="")])


@pytest.mark.parametrize("color", ["red;rm", "a\nb", "", "#12345"])
def test_strange_colours_are_refused(color: str) -> None:
    Image.new("RGB", (32, 32), "red").save("m.png")
    data = pictures(
        paint("drawn", (32, 32)), paint("drawn", (40, 36)), regions={"sky": Region(InputPath("m.png"), color=color)}
    )
    with pytest.raises(InputError, match=r"data.regions.sky.color to be a colour such as red") as caught:
        data.setup()
    assert "\n" not in str(caught.value)


def test_a_weight_that_is_no_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"finite weight of 0 or more, but got nan; change --data.style\[0\].weight"):
        pictures(Path("a.png"), [Style(InputPath("b.png"), weight=float("nan"))])
