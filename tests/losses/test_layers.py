"""Losses that hold targets, and the objective's weights."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import torch

from nst.errors import InputError
from nst.losses import functional as F
from nst.losses.distances.frobenius import gram_distance
from nst.losses.layers import ContentLoss, ContentTarget, StyleLoss, StyleTarget
from nst.losses.objective import Objective
from nst.losses.terms.pixels import TotalVariation
from tests.helpers import gathered, objective_of, set_targets


def random(seed: int, channels: int = 3, size: int = 6) -> torch.Tensor:
    return torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(seed))


def test_defaults_are_those_of_the_functions() -> None:
    default = inspect.signature(gram_distance).parameters["normalization"].default
    assert StyleLoss().distance.normalization == ContentLoss().normalization == default
    assert TotalVariation(1.0).norm == inspect.signature(F.total_variation).parameters["norm"].default


def test_a_loss_is_the_function_of_its_target() -> None:
    gram, content = StyleLoss(), ContentLoss()
    gram.set_targets([StyleTarget(F.moments(random(1)))])
    content.set_target(ContentTarget(random(1)))
    x = random(2)
    assert torch.equal(gram.value(gram.statistics(x)), gram_distance(F.moments(x), F.moments(random(1))))
    expected = F.squared_error(x, random(1)) / random(1).square().sum()
    torch.testing.assert_close(content.value(content.statistics(x)), expected)


def objective(**settings: Any) -> Objective:
    made = objective_of({"relu4_2": 2.0}, {"relu1_1": 1.0, "relu2_1": 3.0}, **settings)
    layers = {"relu4_2": random(3), "relu1_1": random(4), "relu2_1": random(5)}
    set_targets(made, layers, {layer: F.moments(random(6 + i)) for i, layer in enumerate(layers)})
    return made


def test_weights_of_layers_are_shares() -> None:
    made = objective(content_weight=2.0, style_weight=8.0, tv_weight=0.5)
    assert made.weights == {"content/relu4_2": 2.0, "style/relu1_1": 2.0, "style/relu2_1": 6.0, "tv": 0.5}
    x = {"relu4_2": random(10), "relu1_1": random(11), "relu2_1": random(12)}
    terms = made.values(gathered(made, x, random(13)), random(13))
    assert list(terms) == list(made.weights)
    by_hand = sum(made.weights[name] * float(value) for name, value in terms.items())
    assert float(made.total(terms)) == pytest.approx(by_hand, rel=1e-6)
    assert float(made.sums(terms)["style"]) == pytest.approx(
        2.0 * float(terms["style/relu1_1"]) + 6.0 * float(terms["style/relu2_1"]), rel=1e-6
    )


def test_every_term_has_a_gradient() -> None:
    made = objective(tv_weight=1.0)
    x = {layer: random(20 + i).requires_grad_() for i, layer in enumerate(("relu4_2", "relu1_1", "relu2_1"))}
    picture = random(30).requires_grad_()
    for name, term in made.values(gathered(made, x, picture), picture).items():
        leaf = picture if name == "tv" else x[name.partition("/")[2]]
        (gradient,) = torch.autograd.grad(term, leaf)
        assert gradient.abs().max() > 0, name


def test_a_term_without_weight_is_not_computed() -> None:
    made = objective_of({"relu4_2": 1.0}, {"relu1_1": 0.0, "relu2_1": 1.0}, content_weight=0)
    assert made.layers == {"relu2_1"}


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("key", ["content_weight", "style_weight", "tv_weight"])
def test_bad_weights_are_refused(key: str, weight: float) -> None:
    with pytest.raises(InputError, match=rf"finite weight of 0 or more, but got .*; change --model.{key}"):
        objective(**{key: weight})


def test_bad_layer_weights_are_refused() -> None:
    with pytest.raises(InputError, match=r"but got -1.0; change --model.style_layers.relu1_1"):
        objective_of({}, {"relu1_1": -1.0})
    with pytest.raises(InputError, match=r"Expected a content or a style layer with a weight above 0"):
        objective_of({"relu1_1": 1.0}, {"relu1_1": 1.0}, content_weight=0, style_weight=0)
