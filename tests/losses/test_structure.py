"""The structure term: its value, its gradient, and its sums over bands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as nnf

from nst.losses.objective import Objective
from nst.losses.terms.structure import StructureLoss, StructureTerm
from nst.network import weights
from nst.network.features import Features
from nst.streaming.scanner import Scanner
from tests.helpers import difference, module, noise, pictures, run, seen


def loss_of(height: int, width: int, weighted: bool = False) -> tuple[StructureLoss, torch.Tensor]:
    target = torch.randn(1, 5, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    guide = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    made = StructureLoss()
    visible, weights = (guide, 1 - guide / 2) if weighted else (None, None)
    made.set_target(target, visible, weights)
    return made, target


def test_the_value_is_the_mean_difference_of_similarities() -> None:
    made, target = loss_of(64, 96)
    x = torch.randn(1, 5, 64, 96, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    similar = []
    for features in (x, target):
        places = nnf.avg_pool2d(features, (2, 3))[0].flatten(1).T
        places = nnf.normalize(places - places.mean(0))
        similar.append(places @ places.T)
    wanted = float((similar[0] - similar[1]).abs().mean())
    assert float(made.value(made.statistics(x))) == pytest.approx(wanted, rel=1e-3)
    assert float(made.value(made.statistics(3 * target + 2))) == pytest.approx(0, abs=1e-3)  # only alikeness counts


def test_what_is_empty_may_become_anything() -> None:
    """A pair of places weighs by how much of a subject both are."""
    _, target = loss_of(64, 64)
    left = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    left[..., :32] = 1
    made, all_of_it = StructureLoss(), StructureLoss()
    made.set_target(target, weights=left)
    all_of_it.set_target(target)
    # the right side is another, with the same mean
    changed = torch.cat([target[..., :32], target[..., 32:].flip(2)], dim=3)
    assert (
        float(made.value(made.statistics(changed)))
        < 1e-6
        < 0.01
        < float(all_of_it.value(all_of_it.statistics(changed)))
    )


@pytest.mark.parametrize(("height", "width"), [(4, 5), (35, 33)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_the_structure(height: int, width: int, weighted: bool) -> None:
    made, _ = loss_of(height, width, weighted)
    x = torch.randn(1, 5, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    x.requires_grad_()
    if height < 10:
        assert torch.autograd.gradcheck(lambda y: made.value(made.statistics(y)), x)
    statistics = made.statistics(x)
    cotangent = torch.randn_like(statistics.value)
    (wanted,) = torch.autograd.grad(statistics.value, x, cotangent)
    gradient = torch.zeros_like(x)
    made.add_gradient(gradient, x.detach(), statistics.unflatten([cotangent]))
    torch.testing.assert_close(gradient, wanted)


def test_bands_have_the_numbers_of_the_whole() -> None:
    network = Features(weights.load("compact", "imagenet"), ["relu2_1", "relu3_1"])
    term = StructureTerm({"relu2_1": 1.0, "relu3_1": 2.0}, 1.0)
    content, picture = noise(64, 80, 1).float(), noise(64, 80, 2).float()
    whole = Scanner(network, "off")
    activations = whole.activations(content, term.structure)
    for layer, made in term.structure.items():
        made.set_target(activations[layer])
    objective = Objective([term])
    value, gradient = seen(whole, objective, picture)
    again, found = seen(Scanner(network, "on", 0.0), objective, picture)
    assert float(again) == pytest.approx(float(value), rel=1e-4)
    assert difference(found, gradient) < 1e-3


def test_it_is_lowered(pair: tuple[Path, Path]) -> None:
    made = run(module(structure_weight=10.0, init="noise"), pictures(pair, 12))
    with torch.no_grad():
        after = made.objective.sums(made.values())["structure"]
        made.prepare(made.levels)  # back to the start
        assert after < 0.8 * made.objective.sums(made.values())["structure"]
