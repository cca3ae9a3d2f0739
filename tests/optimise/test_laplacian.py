"""Adam in the coefficients of a Laplacian pyramid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nst.optimise.optimizers import LaplacianAdam, scaled_up, scaled_up_adjoint
from tests.helpers import fit, module, pictures, run

LAPLACIAN = ["--model.optimizer.class_path", "nst.LaplacianAdam", "--model.optimizer.init_args.lr", "0.01"]


@pytest.mark.parametrize("size", [(8, 9), (15, 22), (7, 13)])
def test_scaling_up_is_linear_and_has_its_adjoint(size: tuple[int, int]) -> None:
    coarse = torch.rand(1, 3, size[0] // 2 + 2, size[1] // 2 + 2, dtype=torch.float64, requires_grad=True)
    fine = torch.rand(1, 3, *size, dtype=torch.float64)
    wide = scaled_up(coarse, size)
    assert wide.shape == fine.shape
    (wanted,) = torch.autograd.grad(wide, coarse, fine)
    torch.testing.assert_close(scaled_up_adjoint(fine), wanted)
    slope = torch.arange(coarse.shape[3], dtype=torch.float64).expand_as(coarse)
    steps = scaled_up(slope, size).diff(dim=3)  # a slope stays a slope, half as steep
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5))


def test_one_scale_is_adam() -> None:
    torch.manual_seed(0)
    first = nn.Parameter(torch.rand(1, 3, 20, 24))
    second = nn.Parameter(first.detach().clone())
    ours, theirs = LaplacianAdam([first], 0.02, scales=1), torch.optim.Adam([second], 0.02, (0.9, 0.99))
    for _ in range(5):
        for picture, optimizer in ((first, ours), (second, theirs)):
            optimizer.zero_grad()
            (picture - 0.3).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(first, second)


def test_the_steps_are_those_of_adam_on_the_coefficients() -> None:
    """An independent reference: the coefficients as parameters of torch's Adam, the picture made from them."""
    torch.manual_seed(0)
    target, start = torch.rand(1, 3, 30, 41), torch.rand(1, 3, 30, 41)
    picture, sizes = nn.Parameter(start.clone()), [(30, 41), (17, 22), (10, 13)]
    ours = LaplacianAdam([picture], 0.01, scales=3)
    parts = [nn.Parameter(torch.zeros(1, 3, *size)) for size in sizes]
    theirs = torch.optim.Adam(parts, 0.01, (0.9, 0.99))
    for _ in range(6):
        ours.zero_grad()
        (picture - target).square().sum().backward()
        ours.step()
        theirs.zero_grad()
        made = start + parts[0] + scaled_up(parts[1] + scaled_up(parts[2], sizes[1]), sizes[0])
        (made - target).square().sum().backward()
        theirs.step()
    made = start + parts[0] + scaled_up(parts[1] + scaled_up(parts[2], sizes[1]), sizes[0])
    torch.testing.assert_close(picture, made, rtol=1e-4, atol=1e-5)


def test_large_shapes_move_faster_than_with_adam() -> None:
    distance = []
    for make in (lambda p: LaplacianAdam(p, 0.01), lambda p: torch.optim.Adam(p, 0.01, (0.9, 0.99))):
        picture = nn.Parameter(torch.full((1, 3, 64, 64), 0.2))
        optimizer: Any = make([picture])
        for _ in range(10):
            optimizer.zero_grad()
            (picture - 0.8).square().sum().backward()
            optimizer.step()
        distance.append(float((picture - 0.8).abs().mean()))
    assert distance[0] < 0.6 * distance[1]


def test_it_lowers_the_objective(pair: tuple[Path, Path]) -> None:
    made = run(module(optimizer=lambda p: LaplacianAdam(p, 0.01)), pictures(pair, 15))
    with torch.no_grad():
        after = made.objective.total(made.values())
        made.prepare(made.levels)
        assert after < 0.9 * made.objective.total(made.values())


@pytest.mark.usefixtures("pair")
def test_a_run_resumes_and_is_made_again_to_the_bit() -> None:
    steps = [*LAPLACIAN, "--data.min_size", "40", "--data.ratio", "1.2"]
    assert fit(*steps, "--output", "a.png", steps=4) == 0
    assert fit(*steps, "--trainer.max_steps", "6", steps=4) == 0
    assert fit(*steps, "--ckpt_path", "last", "--output", "b.png", steps=4) == 0
    whole = np.asarray(Image.open("a.png"))
    np.testing.assert_array_equal(whole, np.asarray(Image.open("b.png")))
    assert fit("--config", "a.png", "--output", "c.png", steps=4) == 0  # a record may name it
    np.testing.assert_array_equal(whole, np.asarray(Image.open("c.png")))


@pytest.mark.parametrize("settings", [{"lr": -1}, {"betas": (1.0, 0.9)}, {"eps": 0}, {"scales": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"out of range|1 or more"):
        LaplacianAdam([nn.Parameter(torch.zeros(1, 3, 8, 8))], **settings)
