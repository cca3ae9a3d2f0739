"""Colour TIFFs with 16 bits: every value, whatever the compression."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from nst.errors import InputError
from nst.pictures import images
from nst.pictures.profiles import srgb_profile

VALUES = np.random.default_rng(4).integers(0, 65536, (20, 24, 3), dtype=np.uint16)


def write(path: str, values: NDArray[np.uint16] = VALUES, **options: Any) -> None:
    tifffile.imwrite(path, values, photometric="rgb", metadata=None, **options)


def lzw(data: bytes) -> bytes:
    """Packs bytes as LZW with codes of nine bits alone, by clearing the table before it grows."""
    codes = [256]
    for i, byte in enumerate(data):
        codes += [byte] if i % 200 else [256, byte]
    bits = "".join(f"{code:09b}" for code in [*codes, 257])
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def write_lzw(path: str, values: NDArray[np.uint16], order: str, predictor: int) -> None:
    """Writes a TIFF with LZW, which tifffile alone cannot."""
    stored = values.copy()
    if predictor == 2:
        stored[:, 1:] -= values[:, :-1]
    height, width, samples = values.shape
    data = lzw(stored.astype(f"{order}u2").tobytes())
    tags = [(256, 4, width), (257, 4, height), (258, 3, 0), (259, 3, 5), (262, 3, 2), (273, 4, 0), (277, 3, samples)]
    tags += [(278, 4, height), (279, 4, len(data)), (317, 3, predictor)]
    after = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, kind, value in tags:
        if tag == 258:
            entries += struct.pack(f"{order}HHII", tag, 3, samples, after)
        elif kind == 3:
            entries += struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0)
        else:
            entries += struct.pack(f"{order}HHII", tag, kind, 1, after + 2 * samples if tag == 273 else value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    Path(path).write_bytes(head + entries + bytes(4) + struct.pack(f"{order}{samples}H", *[16] * samples) + data)


def loaded(path: str) -> NDArray[np.float32]:
    return images.load(path).rgb[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("predictor", [1, 2])
def test_lzw_is_read_with_all_its_bits(order: str, predictor: int) -> None:
    write_lzw("a.tif", VALUES, order, predictor)
    np.testing.assert_array_equal(loaded("a.tif"), VALUES / np.float32(65535))
    with Image.open("a.tif") as image:  # and it is a file that others read alike
        np.testing.assert_array_equal(np.asarray(image), VALUES >> 8)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 3},
        {"tile": (16, 16)},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 3},
        {"compression": "zlib", "predictor": True, "tile": (16, 16)},
        {"compression": "zlib", "iccprofile": srgb_profile()},
    ],
)
def test_every_layout_gives_every_value(order: str, options: dict[str, Any]) -> None:
    write("a.tif", byteorder=order, **options)
    np.testing.assert_array_equal(loaded("a.tif"), VALUES / np.float32(65535))


def test_large_files_headers_are_read_too() -> None:
    write("a.tif", bigtiff=True, compression="zlib")
    np.testing.assert_array_equal(loaded("a.tif"), VALUES / np.float32(65535))


def test_a_fourth_channel_is_an_opacity_where_the_file_says_so() -> None:
    four = np.dstack([VALUES, np.full((20, 24), 32768, np.uint16)])
    write("a.tif", four, extrasamples=["unassalpha"])
    alpha = images.load("a.tif").alpha
    assert alpha is not None and float(alpha[0, 0, 0, 0]) == float(np.float32(32768) / np.float32(65535))
    write("a.tif", four, extrasamples=["unspecified"])
    assert images.load("a.tif").alpha is None
    np.testing.assert_array_equal(loaded("a.tif"), VALUES / np.float32(65535))


@pytest.mark.parametrize("options", [{"extratags": [(274, 3, 1, 3, True)]}, {"iccprofile": b"broken"}])
def test_what_is_odd_is_read_with_eight_bits(options: dict[str, Any]) -> None:
    write("a.tif", **options)
    found = loaded("a.tif")
    expected = VALUES[::-1, ::-1] if "extratags" in options else VALUES
    np.testing.assert_array_equal(found, (expected >> 8) / np.float32(255))


def test_what_is_cut_is_damaged(capfd: pytest.CaptureFixture[str]) -> None:
    write("a.tif", compression="zlib")
    Path("a.tif").write_bytes(Path("a.tif").read_bytes()[:-1000])
    with pytest.raises(InputError, match=r"--picture to be a whole picture, but a.tif is damaged"):
        images.load("a.tif")
    assert capfd.readouterr() == ("", "")  # the library speaks for itself otherwise
