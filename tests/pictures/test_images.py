"""Decoding and encoding, value by value."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from nst.errors import InputError
from nst.pictures import images
from nst.pictures.files import SUFFIXES
from nst.pictures.geometry import periodic, resize
from nst.pictures.profiles import srgb_profile
from tests.helpers import BLUE, GREEN, RED, broken_files, corner, seam


def test_an_rgb_file_is_its_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    picture = images.load(tmp_path / "a.png")
    assert picture.rgb.shape == (1, 3, 5, 7)
    assert picture.rgb.dtype == torch.float32
    assert picture.alpha is None
    np.testing.assert_array_equal((picture.rgb[0].numpy().transpose(1, 2, 0) * 255).round(), values)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2), BLUE)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: to be rotated by 90 degrees clockwise
    image.save(tmp_path / "a.png", exif=exif)
    picture = images.load(tmp_path / "a.png")
    assert (picture.width, picture.height) == (2, 4)
    assert picture.rgb[0, :, 0, 1].tolist() == [1, 0, 0]


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F"])
def test_every_mode_gives_its_colour(mode: str) -> None:
    grey = mode in ("L", "1", "LA", "I;16", "I", "F")
    image = Image.new("RGB", (8, 8), (255, 255, 255) if grey else RED)
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.full((8, 8), 65535, np.uint16 if mode == "I;16" else np.int32))
    elif mode == "F":
        image = Image.fromarray(np.ones((8, 8), np.float32))
    else:
        image = image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)
    assert image.mode == mode
    picture = images.decode(image)
    np.testing.assert_allclose(corner(picture), [255, 255, 255] if grey else RED, atol=2)  # YCbCr rounds


def test_sixteen_bit_grey_keeps_its_depth(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    picture = images.load(tmp_path / "a.png")
    np.testing.assert_allclose(picture.rgb[0, 0].numpy(), ramp / 65535, atol=1e-6)


def test_transparency_is_kept_apart_and_hides_its_colour() -> None:
    image = Image.new("RGBA", (2, 1), (*RED, 255))
    image.putpixel((1, 0), (*GREEN, 0))
    picture = images.decode(image)
    assert picture.alpha is not None
    assert picture.alpha.flatten().tolist() == [1, 0]
    assert picture.rgb[0, :, 0, 1].tolist() == [1, 0, 0]  # the visible mean, not the hidden green
    assert images.decode(Image.new("RGBA", (2, 2), (*RED, 255))).alpha is None


def test_a_transparent_palette_has_alpha(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    picture = images.load(tmp_path / "a.png")
    assert picture.alpha is not None
    assert picture.alpha.flatten().tolist() == [1, 0]


def test_resizing_is_antialiased_and_keeps_the_mean() -> None:
    board = torch.from_numpy(np.indices((64, 64)).sum(0) % 2).float().expand(1, 3, 64, 64)
    small = resize(board.contiguous(), 8, 8)
    torch.testing.assert_close(small[..., 2:-2, 2:-2], torch.full((1, 3, 4, 4), 0.5), atol=0.01, rtol=0)
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1
    large = resize(edge, 32, 32)
    assert large.min() == 0
    assert large.max() == 1  # Lanczos rings past it, and is clipped


def test_a_periodic_picture_has_no_seam_and_is_the_same_inside() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 48), indexing="ij")
    wave = 0.1 * torch.sin(40 * x + 30 * y)
    photograph = torch.stack([0.2 + 0.5 * x + wave, 0.3 + 0.4 * y + wave, 0.5 + wave])[None]  # as light falls off
    made = periodic(photograph)
    assert min(seam(photograph, 2), seam(photograph, 3)) > 1.5
    assert max(seam(made, 2), seam(made, 3)) < 1
    torch.testing.assert_close(made.mean((2, 3)), photograph.mean((2, 3)), atol=2e-3, rtol=0)
    inside = (slice(None), slice(None), slice(10, -10), slice(10, -10))
    assert (made[inside].diff(dim=3) - photograph[inside].diff(dim=3)).abs().mean() < 0.02
    # what tiles already has no such part
    again = 0.5 + 0.2 * torch.sin(2 * torch.pi * torch.arange(32) / 32).expand(1, 3, 32, 32)
    torch.testing.assert_close(periodic(again.contiguous()), again, atol=0.04, rtol=0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_saving_and_loading_gives_the_picture_back(tmp_path: Path, suffix: str) -> None:
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 24, 32).contiguous()
    images.save(ramp, tmp_path / f"a{suffix}")
    back = images.load(tmp_path / f"a{suffix}").rgb
    exact = {".png": 0.5 / 255, ".tif": 0.5 / 65535, ".tiff": 0.5 / 65535}
    assert (back - ramp).abs().max() <= exact.get(suffix, 4 / 255) + 1e-6  # the others are lossy
    if suffix not in (".tif", ".tiff"):
        with Image.open(tmp_path / f"a{suffix}") as image:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
            assert "sRGB" in ImageCms.getProfileDescription(profile)
    else:
        with tifffile.TiffFile(tmp_path / f"a{suffix}") as tiff:
            assert tiff.pages.first.dtype == np.uint16
            assert tiff.pages.first.tags["InterColorProfile"].value == srgb_profile()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_carried_where_the_format_can(tmp_path: Path, suffix: str) -> None:
    alpha = torch.zeros(1, 1, 8, 8)
    alpha[..., :4] = 1
    images.save(torch.full((1, 3, 8, 8), 0.25), tmp_path / f"a{suffix}", alpha)
    back = images.load(tmp_path / f"a{suffix}")
    assert back.alpha is not None
    assert torch.equal(back.alpha, alpha)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_alpha_is_brought_to_the_size_of_a_smaller_level(tmp_path: Path, name: str) -> None:
    alpha = torch.zeros(1, 1, 16, 16)
    alpha[..., :8] = 1
    images.save(torch.full((1, 3, 8, 8), 0.25), tmp_path / name, alpha)
    back = images.load(tmp_path / name)
    assert (back.width, back.height) == (8, 8)
    assert name == "a.jpg" or back.alpha is not None


def test_jpeg_gets_a_white_ground(tmp_path: Path) -> None:
    images.save(torch.zeros(1, 3, 8, 8), tmp_path / "a.jpg", torch.zeros(1, 1, 8, 8))
    assert corner(images.load(tmp_path / "a.jpg")) == [255, 255, 255]


def test_the_same_picture_makes_the_same_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        images.save(torch.full((1, 3, 8, 8), 0.25), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    for name, words in broken_files(tmp_path).items():
        with pytest.raises(InputError, match=rf"Expected --data.content to be a .*picture.*, but .*{words}"):
            images.load(tmp_path / name, "data.content")


def test_an_opened_image_that_is_damaged_is_refused(tmp_path: Path) -> None:
    broken_files(tmp_path)
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(InputError, match=r"Expected content to be a whole"):
        images.decode(image, "content")


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_a_tiff_is_turned_once(tmp_path: Path, options: dict[str, str]) -> None:
    image = Image.new("RGB", (4, 2), BLUE)
    image.putpixel((0, 0), RED)
    image.save(tmp_path / "a.tif", tiffinfo={0x0112: 6}, **options)
    picture = images.load(tmp_path / "a.tif")
    assert (picture.width, picture.height) == (2, 4)
    assert picture.rgb[0, :, 0, 1].tolist() == [1, 0, 0]


def test_exif_that_is_broken_turns_nothing(tmp_path: Path) -> None:
    image = Image.new("RGB", (4, 2), RED)
    image.save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0\x2a\0\0\0\x08\xff\xff")
    assert images.load(tmp_path / "a.jpg").width == 4
    image.save(tmp_path / "b.jpg", exif=b"Exif\0\0nonsense")
    assert images.load(tmp_path / "b.jpg").width == 4


def test_floats_that_are_no_numbers_are_black_or_white() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, 0.5]], np.float32)
    assert images.decode(Image.fromarray(values)).rgb[0, 0, 0].tolist() == [0, 1, 0, 0.5]
