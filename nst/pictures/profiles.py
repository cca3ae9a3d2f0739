"""Colour profiles: an ICC profile defines the colours of an image's values, and every decoded picture is sRGB."""

from __future__ import annotations

import io
import struct
from functools import cache

import numpy as np
from PIL import Image, ImageCms

PERCEPTUAL, COLORIMETRIC = ImageCms.Intent.PERCEPTUAL, ImageCms.Intent.RELATIVE_COLORIMETRIC


@cache
def srgb_profile() -> bytes:
    """Returns an ICC profile for sRGB, whose bytes are always the same."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # the date of creation
    return bytes(profile)


def is_srgb(profile: object) -> bool:
    """Tells whether a profile is sRGB: it moves no colour of a grey ramp and an RGB cube by more than one 8-bit level.

    A profile's name proves nothing: "linear sRGB" and "not quite sRGB" are names too.
    """
    if profile == srgb_profile():
        return True
    if not isinstance(profile, bytes):
        return False
    colors = _colors()
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # perceptual tables may move colours on purpose, also the tables of an sRGB profile
        transform = ImageCms.buildTransform(source, _srgb(), "RGB", "RGB", COLORIMETRIC)
        moved = np.asarray(transform.apply(colors), np.int16)
    except MemoryError:
        raise
    except Exception:  # the parser may raise any error for a broken profile
        return False
    return bool(np.abs(moved - np.asarray(colors, np.int16)).max() <= 1)


def to_srgb(image: Image.Image) -> Image.Image:
    """Converts an image of mode L, RGB, CMYK or LAB to sRGB by its profile; a profile that is broken or for another
    mode is ignored, and values that are sRGB already stay unchanged, bit for bit."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        if image.mode != "LAB":
            return image.convert("RGB")
        profile = None
    elif image.mode == "RGB" and is_srgb(profile):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile) if profile else ImageCms.createProfile("LAB"))
        converted = ImageCms.profileToProfile(image, source, _srgb(), PERCEPTUAL, outputMode="RGB")
        assert converted is not None  # only a conversion in place returns None
        return converted
    except MemoryError:
        raise
    except Exception:
        return image.convert("RGB")


def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


@cache
def _colors() -> Image.Image:
    """Returns all greys, and a cube of nine levels a channel, as one row of pixels."""
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    return Image.fromarray(np.concatenate([greys, cube])[None])
