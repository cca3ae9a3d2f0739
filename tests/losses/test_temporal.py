"""The temporal term: its value, its gradient, its size at a level, and that it streams."""

from __future__ import annotations

import pytest
import torch

from nst.errors import InputError
from nst.losses.terms.temporal import TemporalTerm
from nst.pictures.geometry import extend
from nst.scene.levels import Level, Painting, Place
from tests.helpers import module, noise


class Extends:
    """What a term needs of a Scan."""

    def extended(self, image: torch.Tensor) -> torch.Tensor:
        return extend(image, 2)


def level(height: int, width: int) -> Level:
    picture = torch.zeros(1, 3, height, width)
    return Level(0, 1, picture, (Place((Painting(picture),)),))


def test_it_is_the_weighted_square_and_has_a_gradient() -> None:
    seen = torch.zeros(1, 1, 2, 2)
    seen[..., 0, 0] = 1
    term = TemporalTerm([torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)], [seen, 1 - seen], 2.0)
    term.set_targets(level(2, 2), Extends())  # type: ignore[arg-type]  # all that it needs
    picture = torch.full((1, 3, 6, 6), 0.5, dtype=torch.float64)
    picture[..., 2:4, 2:4] = 0.75
    picture.requires_grad_()
    value = term.values({}, picture)["temporal"]
    expected = torch.full((6, 6), 0.0, dtype=torch.float64)
    expected[:] = 0.25  # every pixel but the corner is drawn to 1, by 0.5 in the margin
    expected[2:4, 2:4] = 0.0625
    expected[:3, :3] = 0.25  # and what the first frame sees, with its margin, to 0
    expected[2, 2] = 0.5625
    assert value.item() == pytest.approx(expected.mean().item())
    assert torch.autograd.gradcheck(lambda x: term.values({}, x)["temporal"], picture)
    (gradient,) = torch.autograd.grad(value, picture)
    assert gradient.abs().min() > 0


def test_its_targets_have_the_size_of_the_level() -> None:
    term = TemporalTerm([noise(40, 60, 1)], [torch.ones(1, 1, 40, 60)], 1.0)
    term.set_targets(level(20, 30), Extends())  # type: ignore[arg-type]  # all that it needs
    ((warped, seen),) = term.targets
    assert warped.shape == (1, 3, 24, 34) and seen.shape == (1, 1, 24, 34)


def test_a_weight_of_0_leaves_it_out_and_one_below_is_refused() -> None:
    kept = module(terms=[TemporalTerm([noise(8, 8, 1)], [torch.ones(1, 1, 8, 8)], 0.5)])
    assert kept.objective.weights["temporal"] == 0.5
    assert kept.objective.flags["temporal"] == "--video.temporal_weight"
    assert "temporal" not in module(terms=[TemporalTerm([], [], 0.0)]).objective.weights
    with pytest.raises(InputError, match=r"0 or more, but got -1\.0; change --video\.temporal_weight"):
        TemporalTerm([], [], -1.0)
