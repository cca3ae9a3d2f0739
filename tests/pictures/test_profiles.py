"""What is sRGB stays bit for bit; what only says so is converted."""

from __future__ import annotations

import io
import struct
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from nst.pictures import images
from nst.pictures.profiles import is_srgb, srgb_profile, to_srgb
from tests.helpers import BLUE, RED, corner

SKIMAGE = files("skimage").joinpath("data")
"""Files of scikit-image's wheel with profiles that Photoshop and others wrote."""


def embedded(name: str) -> bytes:
    with Image.open(str(SKIMAGE.joinpath(name))) as image:
        return bytes(image.info["icc_profile"])


def linear() -> bytes:
    """Returns a profile with sRGB's primaries and name, whose numbers are amounts of light."""
    profile = bytearray(srgb_profile())
    at = profile.find(b"para")
    while at >= 0:
        assert profile[at + 8 : at + 10] == b"\0\3"  # y = (a x + b)^g from d upwards, c x below
        profile[at + 12 : at + 32] = struct.pack(">5i", 65536, 65536, 0, 65536, 0)
        at = profile.find(b"para", at + 1)
    return bytes(profile)


def test_srgb_is_found_by_what_it_does() -> None:
    assert is_srgb(srgb_profile())
    assert is_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert is_srgb(embedded("astronaut.png"))  # Hewlett-Packard's sRGB IEC61966-2.1, the most common
    assert is_srgb(srgb_profile().replace("sRGB".encode("utf-16-be"), "xxxx".encode("utf-16-be")))
    for other in (linear(), embedded("rocket.jpg"), embedded("color.png"), embedded("page.png"), b"", b"broken", None):
        assert not is_srgb(other)
    description = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(linear())))
    assert "sRGB" in description


def test_values_of_srgb_stay_bit_for_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for profile in (srgb_profile(), embedded("astronaut.png")):
        Image.fromarray(values).save(tmp_path / "a.png", icc_profile=profile)
        np.testing.assert_array_equal((images.load(tmp_path / "a.png").rgb[0] * 255).round().permute(1, 2, 0), values)


def test_light_becomes_srgb_whatever_the_profile_calls_itself(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (55, 128, 255)).save(tmp_path / "a.png", icc_profile=linear())
    # 255 (1.055 (x / 255)^(1 / 2.4) - 0.055), and a level of the converter's fixed point
    np.testing.assert_allclose(corner(images.load(tmp_path / "a.png")), [128, 188, 255], atol=1)


def test_a_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    # a profile whose red and blue primaries are swapped: what it calls red is sRGB's blue
    profile = bytearray(srgb_profile())
    red, blue = profile.find(b"rXYZ"), profile.find(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    Image.new("RGB", (4, 4), RED).save(tmp_path / "a.png", icc_profile=bytes(profile))
    np.testing.assert_allclose(corner(images.load(tmp_path / "a.png")), BLUE, atol=2)


@pytest.mark.parametrize("profile", [b"broken", srgb_profile()[:200], b"\0" * 1000, 5, "text", (b"a", b"b")])
def test_a_profile_that_is_broken_is_passed_over(profile: object) -> None:
    image = Image.new("RGB", (4, 4), RED)
    image.info["icc_profile"] = profile
    assert to_srgb(image).getpixel((0, 0)) == RED


def test_a_profile_of_another_kind_of_image_is_passed_over() -> None:
    grey = Image.new("L", (4, 4), 77)
    grey.info["icc_profile"] = srgb_profile()
    assert to_srgb(grey).getpixel((0, 0)) == (77, 77, 77)
    color = Image.new("RGB", (4, 4), RED)
    color.info["icc_profile"] = embedded("page.png")
    assert to_srgb(color).getpixel((0, 0)) == RED
