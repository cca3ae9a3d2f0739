"""Sizes that files name where Pillow does not look in time."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, features

from nst.errors import InputError
from nst.pictures import images
from nst.pictures.claims import claims
from nst.pictures.decoding import MAX_PIXELS
from tests.helpers import chunk, forget, icns, peak, pillow

LARGE = 100_000_000
"""Bytes that no small picture needs."""


def found(data: bytes) -> list[tuple[int, int]]:
    return list(claims(io.BytesIO(data)))


def refused(data: bytes, words: str, max_pixels: int = MAX_PIXELS) -> None:
    """Sees that a file is refused with some words before anything large is made."""
    Path("a").write_bytes(data)
    before = forget()
    with pytest.raises(InputError, match=words):
        images.load("a", "data.content", max_pixels)
    assert peak() - before < LARGE


def packed(length: int) -> bytes:
    """Compresses so many zeros without ever having them."""
    packer = zlib.compressobj()
    return (
        b"".join(packer.compress(bytes(min(1 << 20, length - i))) for i in range(0, length, 1 << 20)) + packer.flush()
    )


def png(width: int, height: int, before: bytes = b"") -> bytes:
    """Makes a PNG that is all black, of few bytes."""
    black = packed((width // 8 + 1) * height)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + before + head + chunk(b"IDAT", black) + chunk(b"IEND", b"")


def test_a_canvas_is_known_before_it_is_made() -> None:
    head = b"RIFF" + bytes(4) + b"WEBPVP8X" + struct.pack("<II", 10, 0)
    refused(head + b"\xff\xff\xff\xff\xff\xff", "has 16777216×16777216, which may be a decompression bomb")
    if features.check("webp"):
        for options in ({"lossless": True}, {}, {"exif": b"Exif\0\0II\x2a\0\x08\0\0\0\0\0"}):
            assert found(pillow("WEBP", size=(24, 20), **options)()) == [(24, 20)]


@pytest.mark.parametrize("deep", [False, True])
def test_a_tile_may_not_be_larger_than_what_is_allowed(deep: bool) -> None:
    values = np.zeros((32, 32, 3), np.uint16 if deep else np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="rgb", tile=(32, 32), compression="zlib", metadata=None)
    data = bytearray(file.getvalue())
    assert found(bytes(data)) == [(32, 32), (32, 32)]
    for tag in (322, 323):
        at = data.find(struct.pack("<HHI", tag, 4, 1))
        struct.pack_into("<I", data, at + 8, 16_000)
    refused(bytes(data), "has 16000×16000, which may be")
    struct.pack_into("<H", data, data.find(struct.pack("<HHI", 322, 4, 1)), 256)  # a second, larger width
    assert found(bytes(data))[0] == (16_000, 32)


@pytest.mark.parametrize("deep", [False, True])
def test_what_a_strip_holds_beyond_its_picture_is_left_packed(deep: bool) -> None:
    values = np.zeros((32, 32, 3), np.uint16 if deep else np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric="rgb", compression="zlib", metadata=None)
    data = bytearray(file.getvalue())
    strip = packed(250_000_000)
    for tag, value in ((273, len(data)), (279, len(strip))):
        at = data.find(struct.pack("<H", tag), 8)
        struct.pack_into("<HII", data, at + 2, 4, 1, value)
    Path("a.tif").write_bytes(bytes(data) + strip)
    before = forget()
    assert images.load("a.tif", max_pixels=1024).width == 32
    assert peak() - before < LARGE


def test_samples_and_odd_numbers_are_refused() -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((32, 32, 3), np.uint16), photometric="rgb", metadata=None)
    data = bytearray(file.getvalue())
    at = data.find(struct.pack("<HHI", 277, 3, 1))
    struct.pack_into("<H", data, at + 8, 60_000)
    refused(bytes(data), r"is damaged \(60000 samples a pixel\)")
    struct.pack_into("<HHIHH", data, at, 256, 5, 1, 32, 0)
    refused(bytes(data), r"is damaged \(tag 256 is not one whole number\)")


@pytest.mark.parametrize("before", [b"", chunk(b"tEXt", b"a\0b")])
def test_icons_may_not_hold_large_pictures(before: bytes) -> None:
    bomb = png(20_000, 20_000, before)
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(bomb), 22) + bomb
    refused(icon, "holds a picture of more; if you trust the file, allow it with --data.max_pixels")
    part = b"ic11" + struct.pack(">I", 8 + len(bomb)) + bomb
    refused(b"icns" + struct.pack(">I", 8 + len(part)) + part, "holds a picture of more")


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow has no JPEG 2000")
@pytest.mark.parametrize(
    "whole",
    [pillow("JPEG2000"), pillow("JPEG2000", no_jp2=True), lambda: icns("JPEG2000", no_jp2=True)],
    ids=["boxes", "stream", "icon"],
)
def test_streams_may_not_be_larger_than_their_boxes_say(whole: Callable[[], bytes]) -> None:
    data = bytearray(whole())
    at = data.find(b"\xff\x4f\xff\x51") + 8
    size = struct.unpack_from(">II", data, at)
    assert found(bytes(data)) == [size]
    struct.pack_into(">I", data, at, 4_000_000_000)
    refused(bytes(data), rf"has 4000000000×{size[1]}, which may be")
    struct.pack_into(">II", data, at, 4000, 4000)
    struct.pack_into(">II", data, at + 16, 1, 1)
    refused(bytes(data), r"is damaged \(16000000 tiles for 4000×4000 pixels\)")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("frames", [False, True])
def test_an_av1_stream_may_not_be_larger_than_its_boxes_say(frames: bool) -> None:
    file = io.BytesIO()
    pictures = [Image.new("RGB", (320, 200), color) for color in ("red", "blue")]
    pictures[0].save(file, "AVIF", save_all=frames, append_images=pictures[1:] if frames else [])
    data = bytearray(file.getvalue())
    at = data.find(b"ispe")
    assert struct.unpack_from(">II", data, at + 8) == (320, 200)
    while at >= 0:
        struct.pack_into(">II", data, at + 8, 8, 5)
        at = data.find(b"ispe", at + 1)
    assert set(found(bytes(data))) == {(8, 5), (320, 200)}
    refused(bytes(data), "has 320×200, which may be", 1000)


def test_other_files_claim_nothing() -> None:
    for data in (b"", b"II", png(8, 8), b"RIFF" + bytes(40), b"GIF89a" + bytes(40)):
        assert not found(data)
