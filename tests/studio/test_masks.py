"""Regions painted with a brush, and the settings that they become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst.pictures import images
from nst.scene.masks import read_regions
from nst.scene.styles import Region
from nst.studio import masks
from nst.studio.asked import Brushed
from nst.types import InputPath


def strokes(**boxes: tuple[int, int]) -> np.ndarray:
    """Columns of a layer of 20×30 pixels in colours."""
    layer = np.zeros((20, 30, 4), np.uint8)
    for name, (left, right) in boxes.items():
        value = masks.PALETTE[name].removeprefix("#")
        layer[:, left:right] = [*bytes.fromhex(value), 255]
    return layer


def test_strokes_become_a_map_that_regions_are_read_from(tmp_path: Path) -> None:
    found = masks.painted([strokes(red=(0, 10), blue=(10, 15))])
    assert found is not None
    assert masks.names(found) == ["red", "blue"]
    masks.save(found, tmp_path / "map.png")
    brushed = [Brushed("red", 1), Brushed("lime", 0), Brushed("blue", None, 3.0)]
    settings = masks.regions(masks.names(found), brushed, tmp_path / "map.png")
    assert [*settings] == ["red", "blue"] and settings["blue"]["keep"] and settings["blue"]["content_weight"] == 3
    Image.new("RGB", (60, 40)).save(tmp_path / "photo.png")
    regions = {name: Region(InputPath(x["mask"]), x["color"]) for name, x in settings.items()}
    read = read_regions(regions, images.load(tmp_path / "photo.png"), 10**6)
    assert read["red"] is not None and read["blue"] is not None
    assert float(read["red"].mean()) == pytest.approx(1 / 3) and float(read["blue"].mean()) == pytest.approx(1 / 6)


def test_faint_edges_and_upper_layers() -> None:
    lower, upper = strokes(red=(0, 10)), strokes(yellow=(5, 8))
    lower[:, 12, :] = (200, 30, 20, 127)  # too faint to count
    lower[:, 13, :] = (200, 30, 20, 128)
    found = masks.painted([lower, upper])
    assert found is not None
    assert found[0, :14].tolist() == [[255, 0, 0]] * 5 + [[255, 255, 0]] * 3 + [[255, 0, 0]] * 2 + [[0, 0, 0]] * 3 + [
        [255, 0, 0]
    ]


def test_nothing_painted_is_no_map() -> None:
    assert masks.painted([]) is None and masks.painted([np.zeros((4, 4, 4), np.uint8)]) is None


def test_paintings_of_regions_and_of_the_rest() -> None:
    assert masks.styles(["a", "b", "c"], [Brushed("red", 1), Brushed("blue", None)]) == [
        {"image": "a"},
        {"image": "c"},
        {"image": "b", "region": "red"},
    ]
    assert masks.styles(["a"], [Brushed("red", 0)]) == [{"image": "a"}, {"image": "a", "region": "red"}]
    with pytest.raises(ValueError, match="red to have one of 1 paintings, but got painting 3"):
        masks.styles(["a"], [Brushed("red", 2)])


def test_a_saved_mask_is_loaded_as_strokes(tmp_path: Path) -> None:
    layer = strokes(red=(0, 10), lime=(20, 30))
    found = masks.painted([layer])
    assert found is not None
    masks.save(found, tmp_path / "map.png")
    assert (masks.load(tmp_path / "map.png", 20, 30, 10**6) == layer).all()
    Image.new("RGB", (30, 20)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match="Expected a mask of the colours red, lime, blue, yellow on black"):
        masks.load(tmp_path / "black.png", 20, 30, 10**6)
