"""Style transfer in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nst
from nst.pictures import images
from tests.conftest import fit

TINY: dict[str, Any] = {"size": 32, "steps": 2, "backbone": "vgg16", "weights": "random:0"}


def test_paths_and_pillow_images_give_the_same_picture(pair: tuple[Path, Path]) -> None:
    by_path = nst.stylize(*pair, **TINY)
    by_image = nst.stylize(Image.open(pair[0]), Image.open(pair[1]), **TINY)
    assert by_path.size == (32, 27)
    np.testing.assert_array_equal(np.asarray(by_path), np.asarray(by_image))


def test_it_is_what_the_command_makes(pair: tuple[Path, Path]) -> None:
    assert fit("--data.size", "32", "--output", "a.png", steps=2) == 0
    made = nst.stylize(*pair, **TINY)
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), np.asarray(made))


def test_seed_decides_noise_and_torchs_generator_is_left_alone(pair: tuple[Path, Path]) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (nst.stylize(*pair, init="noise", seed=s, **TINY) for s in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))
    assert np.abs(np.asarray(first).astype(int) - np.asarray(other)).mean() > 1


def test_nothing_is_written(pair: tuple[Path, Path], tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    nst.stylize(*pair, **TINY)
    assert set(tmp_path.iterdir()) == before


def test_alpha_comes_back(pair: tuple[Path, Path]) -> None:
    content = Image.open(pair[0]).convert("RGBA")
    content.putalpha(Image.linear_gradient("L").resize(content.size))
    made = nst.stylize(content, pair[1], **TINY)
    assert made.mode == "RGBA"
    assert images.decode(made).alpha is not None


def test_wrong_input_raises(pair: tuple[Path, Path]) -> None:
    with pytest.raises(nst.InputError, match=r"--data.content to be a picture file, but .*none.png does not exist"):
        nst.stylize("none.png", pair[1], **TINY)
