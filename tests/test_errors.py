"""The words for wrong choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from nst.errors import InputError, check_choice
from nst.losses.layers import ContentLoss, StyleLoss
from nst.losses.terms.pixels import TotalVariation
from nst.network.architecture import Pooling
from nst.network.features import Features
from nst.optimise import starts
from nst.pictures import color
from nst.scene.levels import Level
from nst.streaming.scanner import Scanner
from tests.helpers import objective_of, random_weights


def test_a_choice_is_told_with_the_nearest() -> None:
    check_choice("model.pooling", "max", Pooling)
    words = r"^Expected --model.pooling to be one of max, avg or l2, but got maxx \(did you mean max\?\)$"
    with pytest.raises(InputError, match=words):
        check_choice("model.pooling", "maxx", Pooling)
    check_choice("x", 2, (1, 2))
    for value in (None, True, 1.0, ["max"], "MAX", ""):
        with pytest.raises(InputError, match="Expected --x to be one of 1, 2 or max, but got"):
            check_choice("x", value, (1, 2, "max"))
    with pytest.raises(InputError, match="Expected --x to be one, but got two"):
        check_choice("x", "two", ("one",))


picture = torch.rand(1, 3, 8, 8)
network = Features(random_weights("vgg16"), ["relu1_1"])
wrong: Any = "wrong"
PARTS: dict[str, Callable[[], object]] = {
    "model.pooling to be one of max, avg or l2": lambda: Features(random_weights("vgg16"), [], wrong),
    "model.padding to be one of zeros, replicate, reflect or circular": lambda: Features(
        random_weights("vgg16"), [], "max", wrong
    ),
    "model.normalization to be one of relative or gatys": lambda: StyleLoss(wrong),
    "model.style_distance to be one of frobenius, ": lambda: StyleLoss("relative", wrong),
    "model.normalization to be one of relative": lambda: ContentLoss(wrong),
    "model.tv_norm to be one of l1 or l2": lambda: TotalVariation(1.0, wrong),
    "model.normalization to be one": lambda: objective_of({"relu1_1": 1}, {}, normalization=wrong),
    "model.style_distance to be one": lambda: objective_of({"relu1_1": 1}, {}, style_distance=wrong),
    "model.tv_norm to be one": lambda: objective_of({"relu1_1": 1}, {}, tv_norm=wrong),
    "model.streaming to be one of auto, on or off": lambda: Scanner(network, wrong),
    "data.color to be one of style, content, match or histogram": lambda: color.recolored(wrong, picture, picture),
    "data.color_match to be one of symmetric, pca or cholesky": lambda: color.match(picture, picture, wrong),
    "model.init to be one of content, noise, gray or style": lambda: starts.start(wrong, Level(0, 1, picture, ())),
}


@pytest.mark.parametrize("words", PARTS)
def test_every_part_refuses_what_it_does_not_know(words: str) -> None:
    with pytest.raises(InputError, match=f"Expected --{words}.*, but got wrong"):
        PARTS[words]()
