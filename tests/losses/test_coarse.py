"""The picture seen from afar: the same filter as for pictures, the shares of its terms, and what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nst.errors import InputError
from nst.losses.coarse import SHARE
from nst.pictures import images
from nst.pictures.geometry import extend, lanczos, resize, shrink
from nst.scene.data import PictureData
from nst.types import InputPath, Pixels
from tests.helpers import fit, module, pictures, run


@pytest.mark.parametrize(("height", "width"), [(48, 61), (97, 130), (96, 17)])
def test_the_picture_is_scaled_down_as_photograph_and_painting_are(height: int, width: int) -> None:
    picture = torch.rand(1, 3, 97, 130, generator=torch.Generator().manual_seed(0))
    small = shrink(picture, height, width).clamp(0, 1)  # the other one clips
    torch.testing.assert_close(small, resize(picture, height, width), rtol=0, atol=1e-5)


def test_scaling_down_has_a_gradient() -> None:
    picture = torch.rand(1, 1, 9, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: shrink(x, 5, 7), picture)


def test_a_constant_stays_one() -> None:
    torch.testing.assert_close(lanczos(100, 37).sum(1), torch.ones(37))


def test_terms_are_shared_with_those_of_the_small_picture(pair: tuple[Path, Path]) -> None:
    data = pictures(pair, 1, afar=Pixels(32))
    model = run(module(bleed=2), data)
    plain = run(module(bleed=2), pictures(pair, 1))
    small = run(module(bleed=2), PictureData(*_files(pair), Pixels(32), steps=1))
    for other in (model, plain):
        other.picture.data = extend(torch.full((1, 3, 40, 48), 0.25), 2)
    small.picture.data = extend(torch.full((1, 3, 27, 32), 0.25), 2)
    near, far, both = (x.values() for x in (plain, small, model))
    assert (coarse := data.levels[0].coarse) is not None and coarse.width == 32
    for name, term in both.items():
        torch.testing.assert_close(term, (1 - SHARE) * near[name] + SHARE * far[name], rtol=1e-4, atol=1e-6)


def test_only_larger_levels_are_looked_at_from_afar(pair: tuple[Path, Path]) -> None:
    data = PictureData(*_files(pair), Pixels(96), Pixels(48), steps=1, afar=Pixels(64))
    data.setup()
    assert [(level.width, level.coarse is not None) for level in data.levels] == [(48, False), (68, False), (96, True)]


def test_a_large_picture_is_nearer_to_the_small_one_from_afar(pair: tuple[Path, Path]) -> None:
    small = run(module(), PictureData(*_files(pair), Pixels(32), steps=12)).values()

    def seen(afar: Pixels | None) -> float:
        model = run(module(), pictures(pair, 12, afar=afar))
        judge = run(module(), PictureData(*_files(pair), Pixels(32), steps=1))
        judge.picture.data = shrink(model.shown, 27, 32)
        return float((judge.objective.total(judge.values()) / judge.objective.total(small)).detach())

    assert abs(seen(Pixels(32)) - 1) < abs(seen(None) - 1)


def test_it_resumes_to_the_bit(pair: tuple[Path, Path]) -> None:
    options = ["--data.afar", "32", "--model.average", "0.9", "--model.bleed", "2", "--trainer.logger", "false"]
    assert fit(*options, "--output", "whole.png", steps=4) == 0
    assert fit(*options, "--trainer.max_steps", "2", steps=4) == 0
    assert fit(*options, "--ckpt_path", "last", "--output", "resumed.png", steps=4) == 0
    whole, resumed = (images.load(f"{name}.png", "output").rgb for name in ("whole", "resumed"))
    assert torch.equal(whole, resumed)


def test_a_size_below_one_pixel_is_refused() -> None:
    with pytest.raises(InputError, match=r"Expected --data\.afar to be 1 pixel or more, but got 0"):
        PictureData(afar=Pixels(0))


def _files(pair: tuple[Path, Path]) -> tuple[InputPath, InputPath]:
    return InputPath(pair[0]), InputPath(pair[1])
