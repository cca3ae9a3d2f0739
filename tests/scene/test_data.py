"""From files to levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nst.errors import InputError
from nst.pictures import images
from nst.pictures.geometry import fit
from nst.scene.data import PictureData
from nst.scene.levels import LevelLoader
from nst.types import InputPath, Pixels
from tests.helpers import draw


def made(content: Path, style: Path, size: int = 48, **settings: Any) -> PictureData:
    made = PictureData(InputPath(content), InputPath(style), Pixels(size), **settings)
    made.setup()
    return made


@pytest.mark.parametrize(
    ("height", "width", "longer", "expected"),
    [(300, 400, 200, (150, 200)), (400, 300, 200, (200, 150)), (10, 40000, 512, (1, 512)), (5, 5, 64, (64, 64))],
)
def test_fit_keeps_the_aspect(height: int, width: int, longer: int, expected: tuple[int, int]) -> None:
    assert fit(height, width, longer) == expected


def test_a_level_has_the_photograph_at_size_and_the_painting_in_its_aspect(pair: tuple[Path, Path]) -> None:
    (level,) = made(*pair, size=24, steps=7).levels
    assert (level.width, level.height, level.steps) == (24, 20, 7)
    assert torch.equal(level.content, images.load(pair[0]).resized(20, 24).rgb)
    assert level.style.shape == (1, 3, 24, 20)  # 52 by 44, its longer side 24
    assert level.init is None


def test_style_scale_sizes_the_painting(pair: tuple[Path, Path]) -> None:
    (level,) = made(*pair, size=24, style_scale=1.5).levels
    assert level.style.shape == (1, 3, 36, 30)


def test_a_painting_is_never_enlarged_in_silence(pair: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "nst"):
        (level,) = made(*pair, size=96).levels
    assert level.style.shape == (1, 3, 52, 44)
    assert "painting.png is 44×52 and is not enlarged to 96 pixels" in caplog.text


@pytest.mark.parametrize(
    ("settings", "sizes", "steps"),
    [
        ({"size": 512, "min_size": 128, "steps": [300, 100]}, [128, 181, 256, 362, 512], [300, 100, 100, 100, 100]),
        ({"size": 256, "min_size": 128, "steps": 7}, [128, 181, 256], [7, 7, 7]),
        ({"size": 256, "min_size": 64, "ratio": 2.0, "steps": [1, 2, 3, 4]}, [64, 128, 256], [1, 2, 3]),
        ({"size": 256, "min_size": 256, "steps": 5}, [256], [5]),
        ({"size": 100, "min_size": 128, "steps": [5, 6]}, [100], [5]),
        ({"size": 64, "min_size": 16, "ratio": 2.0}, [64], [500]),  # at 32 its shorter side is below 32
    ],
)
def test_levels_grow_to_the_size(
    pair: tuple[Path, Path], settings: dict[str, Any], sizes: list[int], steps: list[int]
) -> None:
    levels = made(*pair, **settings).levels
    assert [max(level.width, level.height) for level in levels] == sizes
    assert [level.steps for level in levels] == steps
    assert [level.index for level in levels] == list(range(len(sizes)))
    assert all(abs(level.height / level.width - 40 / 48) < 0.02 for level in levels)


def test_alpha_is_kept_at_the_results_size(pair: tuple[Path, Path], tmp_path: Path) -> None:
    image = Image.open(pair[0]).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "clear.png")
    data = made(tmp_path / "clear.png", pair[1], size=24)
    assert data.alpha is not None
    assert data.alpha.shape == (1, 1, 20, 24)
    assert data.state_dict()["alpha"].dtype == torch.uint8
    assert made(*pair).state_dict() == {}


def test_an_init_file_is_read_at_the_results_size(pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = draw(tmp_path / "init.png", (30, 30), seed=5)
    (level,) = made(*pair, size=24, init=InputPath(other)).levels
    assert level.init is not None
    assert level.init.shape == level.content.shape


def test_samples_come_with_the_package() -> None:
    data = PictureData(size=Pixels(64))
    data.setup()
    assert data.levels[0].width == 64
    assert data.names == ("rocket.jpg", "night.jpg")


def test_steps_resume_where_they_were(pair: tuple[Path, Path]) -> None:
    (level,) = made(*pair, steps=5).levels
    first = LevelLoader(level)
    assert len(first) == 5
    taken = iter(first)
    assert next(taken) is next(taken)
    second = LevelLoader(level)
    second.load_state_dict(first.state_dict())
    assert len(list(second)) == 3
    assert len(list(second)) == 5  # once


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 0}, "--data.size to be 1 pixel or more, but got 0"),
        ({"size": -1}, "--data.size to be 1 pixel or more, but got -1"),
        ({"size": 10**9}, "need more than .* EiB and this machine has .* GiB; lower --data.size"),
        ({"steps": 0}, "--data.steps to be 1 or more, but got 0"),
        ({"steps": [5, 0]}, r"--data.steps to be 1 or more, but got \[5, 0\]"),
        ({"steps": []}, r"--data.steps to be 1 or more, but got \[\]"),
        ({"min_size": 0}, "--data.min_size to be 1 pixel or more, but got 0"),
        ({"ratio": 1.0}, "--data.ratio to be above 1, but got 1.0"),
        ({"style_scale": 0.0}, "--data.style_scale to be above 0, but got 0"),
        ({"style_scale": float("nan")}, "--data.style_scale to be above 0, but got nan"),
    ],
)
def test_bad_numbers_are_refused(pair: tuple[Path, Path], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(*pair, **settings)


def test_pictures_without_content_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    Image.new("RGB", (40000, 10)).save(tmp_path / "line.png")
    with pytest.raises(InputError, match=r"--data.content to be at least 8×8 pixels, but dot.png is 1×1"):
        made(tmp_path / "dot.png", pair[1])
    with pytest.raises(InputError, match=r"--data.style to be at least 8×8 pixels, but dot.png is 1×1"):
        made(pair[0], tmp_path / "dot.png")
    with pytest.raises(InputError, match=r"line.png \(40000×10\) becomes 48×1 at this size; raise --data.size or crop"):
        made(tmp_path / "line.png", pair[1])
