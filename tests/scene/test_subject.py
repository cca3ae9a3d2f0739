"""Where a photograph has a subject: a sky is empty, and a face with smooth cheeks is not."""

from __future__ import annotations

import torch
from torch import Tensor

from nst.scene.levels import Level, Painting, Place
from nst.scene.subject import edges, subject
from tests.helpers import noise


def houses(size: int = 200) -> Tensor:
    """A smooth sky over checkered houses, with one smooth wall among them that is a tenth as wide as the picture."""
    picture = torch.linspace(0.4, 0.6, size).repeat(1, 3, size, 1)
    rows, columns = torch.meshgrid(torch.arange(size // 2), torch.arange(size), indexing="ij")
    picture[:, :, size // 2 :] = ((rows // (size // 25) + columns // (size // 25)) % 2).float()
    wall = slice(size // 2, size // 2 + size // 10)
    picture[:, :, wall, wall] = 0.5
    return picture


def test_a_sky_is_empty_and_a_wall_among_houses_is_not() -> None:
    for size in (200, 700):
        found = edges(houses(size))[0, 0]
        assert found.shape == (size, size)
        assert float(found[: size * 2 // 5].max()) < 0.05
        assert float(found[size * 11 // 20 :].min()) > 0.6


def test_contrast_and_size_do_not_matter() -> None:
    found = edges(houses())
    torch.testing.assert_close(edges(0.5 + 0.2 * (houses() - 0.5)), found, atol=1e-3, rtol=0)
    shrunk = torch.nn.functional.interpolate(edges(houses(600)), (200, 200), mode="area")
    assert float((shrunk - found).abs().mean()) < 0.05


def test_one_colour_is_empty_and_noise_is_not() -> None:
    assert float(edges(torch.full((1, 3, 40, 30), 0.3)).max()) == 0
    assert float(edges(noise(40, 30, 1).float()).min()) > 0.5
    assert edges(torch.rand(1, 3, 1, 7)).shape == (1, 1, 1, 7)


def test_regions_are_right() -> None:
    said = torch.zeros(1, 2, 200, 200)
    said[:, 0, :, :50], said[:, 1, :, :50] = 0.7, 1
    level = Level(0, 1, houses(), (Place((Painting(houses()),)),), subject=said)
    found = subject(level)
    assert torch.equal(found[..., :50], torch.full((1, 1, 200, 50), 0.7))
    assert torch.equal(found[..., 50:], edges(houses())[..., 50:])
