"""Damaged files of every format: a picture or one line comes of each, and never a traceback, much memory or a program.

`pytest tests/pictures/test_fuzz.py --fuzz 20000` tries that many files of each kind.
"""

from __future__ import annotations

import io
import struct
import subprocess
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageFile

from nst.errors import InputError
from nst.pictures import images
from nst.pictures.decoding import read_metadata
from nst.pictures.profiles import srgb_profile
from nst.scene.masks import read_mask
from tests.helpers import forget, icns, peak, picture, pillow

LIMIT = 1 << 20
"""Pixels that a damaged file may claim here."""

Rng = np.random.Generator


def described() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "how it was made", 6
    return exif


def frames(kind: str) -> Callable[[], bytes]:
    return pillow(kind, save_all=True, append_images=[picture("RGB", (24, 20)), picture("L", (24, 20))])


def deep(**options: Any) -> Callable[[], bytes]:
    def make() -> bytes:
        file = io.BytesIO()
        values = np.random.default_rng(4).integers(0, 65536, (20, 24, 3), dtype=np.uint16)
        if options.get("planarconfig") == "separate":
            values = values.transpose(2, 0, 1).copy()
        tifffile.imwrite(file, values, photometric="rgb", metadata=None, **options)
        return file.getvalue()

    return make


def saved(suffix: str) -> Callable[[], bytes]:
    def make() -> bytes:
        path = Path(f"made{suffix}")
        images.save(torch.rand(1, 3, 20, 24), path, torch.rand(1, 1, 20, 24), "how it was made")
        return path.read_bytes()

    return make


def psd() -> bytes:
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 20, 24, 8, 3)
    return head + bytes(4) + bytes(4) + bytes(4) + bytes(2) + bytes(range(240)) * 6


def profile() -> bytes:
    return srgb_profile().replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))


KINDS: dict[str, dict[str, Callable[[], bytes]]] = {
    "PNG": {
        "rgb": pillow("PNG", exif=described(), icc_profile=profile()),
        "palette": pillow("PNG", "P", transparency=3),
        "deep": pillow("PNG", "I;16"),
        "ours": saved(".png"),
        "frames": frames("PNG"),
    },
    "JPEG": {
        "baseline": pillow("JPEG", exif=described(), icc_profile=profile()),
        "progressive": pillow("JPEG", progressive=True),
        "cmyk": pillow("JPEG", "CMYK"),
        "frames": pillow("MPO", save_all=True, append_images=[picture("RGB", (24, 20))]),
        "ours": saved(".jpg"),
    },
    "TIFF": {
        "raw": pillow("TIFF", exif=described()),
        "lzw": pillow("TIFF", "RGBA", compression="tiff_lzw"),
        "jpeg": pillow("TIFF", compression="jpeg"),
        "fax": pillow("TIFF", "1", compression="group4"),
        "float": pillow("TIFF", "F"),
        "lab": pillow("TIFF", "LAB", compression="tiff_adobe_deflate"),
        "frames": frames("TIFF"),
        "big": pillow("TIFF", big_tiff=True),
    },
    "TIFF with 16 bits": {
        "ours": saved(".tif"),
        "raw": deep(byteorder=">"),
        "big": deep(bigtiff=True),
        "tiles": deep(tile=(16, 16), compression="zlib", predictor=True),
        "planes": deep(planarconfig="separate"),
    },
    "WebP": {
        "lossy": pillow("WEBP", "RGBA", exif=described(), icc_profile=profile()),
        "lossless": pillow("WEBP", lossless=True),
        "frames": frames("WEBP"),
        "ours": saved(".webp"),
    },
    "AVIF": {"one": pillow("AVIF", "RGBA", speed=10), "frames": pillow("AVIF", save_all=True, speed=10)},
    "GIF": {"one": pillow("GIF", "P", comment=b"made"), "frames": frames("GIF")},
    "BMP": {"rgb": pillow("BMP"), "palette": pillow("BMP", "P"), "dib": pillow("DIB")},
    "PPM": {"rgb": pillow("PPM"), "bits": pillow("PPM", "1"), "float": pillow("PPM", "F")},
    "TGA": {"raw": pillow("TGA"), "packed": pillow("TGA", "P", compression="tga_rle")},
    "ICO": {"png": pillow("ICO", "RGBA"), "bmp": pillow("ICO", bitmap_format="bmp", sizes=[(16, 16)])},
    "ICNS": {"png": icns, "stream": lambda: icns("JPEG2000", no_jp2=True)},
    "JPEG 2000": {
        "boxes": pillow("JPEG2000", "RGBA"),
        "stream": pillow("JPEG2000", no_jp2=True, irreversible=True),
        "tiles": pillow("JPEG2000", tile_size=(16, 16)),
    },
    "PCX": {"rgb": pillow("PCX"), "palette": pillow("PCX", "P")},
    "SGI": {"rgb": pillow("SGI"), "packed": pillow("SGI", "L")},
    "DDS": {"rgb": pillow("DDS"), "blocks": pillow("DDS", "RGBA", pixel_format="DXT5")},
    "QOI": {"rgba": pillow("QOI", "RGBA")},
    "PSD": {"rgb": psd},
}


def mutated(data: bytes, rng: Rng, sound: bool) -> bytes:
    """Damages a file in one of several ways; PNG's checksums are mended where it is to be sound, or all would stop."""
    kind, new = rng.integers(0, 12), bytearray(data)
    reach = len(new) if rng.random() < 0.5 else min(len(new), 160)  # headers are what decoders believe
    if kind == 0:
        del new[rng.integers(0, len(new)) :]
    elif kind == 1:
        at = rng.integers(0, reach)
        new[at:at] = rng.bytes(int(rng.integers(1, 9)))
    elif kind == 2:
        at = rng.integers(0, reach)
        del new[at : at + rng.integers(1, 9)]
    elif kind == 3:
        at, to = rng.integers(0, len(new), 2)
        new[to : to + 16] = new[at : at + 16]
    elif kind in (4, 5):
        at = rng.integers(0, reach)
        odd = [0, 1, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF, 2**31, int(rng.integers(0, 2**32))]
        number = odd[rng.integers(0, len(odd))]
        size = int(rng.choice([2, 4]))
        new[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, "little" if rng.random() < 0.5 else "big")
    else:
        for at in rng.integers(0, reach, rng.integers(1, 9)):
            new[at] = rng.integers(0, 256) if rng.random() < 0.7 else new[at] ^ (1 << rng.integers(0, 8))
    return mended(bytes(new)) if sound and data[:4] == b"\x89PNG" else bytes(new)


def mended(png: bytes) -> bytes:
    at, new = 8, bytearray(png)
    while at + 12 <= len(new):
        (size,) = struct.unpack_from(">I", new, at)
        if at + 12 + size > len(new):
            break
        struct.pack_into(">I", new, at + 8 + size, zlib.crc32(new[at + 4 : at + 8 + size]))
        at += 12 + size
    return bytes(new)


def examine(path: Path) -> str:
    """Reads a file in every way; returns what came of it, and fails for anything but a picture or one line."""
    text = read_metadata(path)
    assert text is None or isinstance(text, str)
    loaded, said = None, ""
    try:
        loaded = images.load(path, "data.content", LIMIT)
        assert loaded.rgb.shape == (1, 3, loaded.height, loaded.width)
        assert loaded.height * loaded.width <= LIMIT
        assert 0 <= float(loaded.rgb.min()) <= float(loaded.rgb.max()) <= 1
        read_mask(loaded, "data.content", loaded, None, [])
    except InputError as error:
        said = str(error)
    assert (not said or "Expected --data.content to " in said) and said.isprintable(), said
    return "refused" if loaded is None else "read"


def make(kind: str) -> dict[str, bytes]:
    """Makes the whole files of a kind; skips a kind that this Pillow cannot write."""
    files = {}
    for name, sample in KINDS[kind].items():
        try:
            files[name] = sample()
        except (KeyError, OSError, ValueError, RuntimeError) as error:
            if kind not in ("AVIF", "QOI", "JPEG 2000", "WebP"):  # what Pillow may be built without
                raise
            reason = f"this Pillow cannot write {kind} ({error})"
            pytest.skip(reason)
    return files


@pytest.mark.parametrize("kind", list(KINDS))
def test_no_damaged_file_brings_a_traceback(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    def refuse(*args: object, **_: object) -> None:
        raise AssertionError(f"a program was started: {args}")

    files = make(kind)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    suffixes = ["", ".png", ".jpg", ".tif", ".webp", ".eps"]
    before, settings, filters = forget(), (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES), warnings.filters[:]
    found = set()
    for name, data in files.items():
        Path("whole").write_bytes(data)
        assert examine(Path("whole")) == "read", name
        rng = np.random.default_rng([len(data), sum(name.encode())])
        slowest = 0.0
        for i in range(request.config.getoption("--fuzz") // len(files)):
            path = Path(f"file{suffixes[rng.integers(0, len(suffixes))]}")
            path.write_bytes(mutated(data, rng, sound=i % 2 == 0) if i else b"")
            started = time.perf_counter()
            found.add(examine(path))
            slowest = max(slowest, time.perf_counter() - started)
        assert slowest < 20  # seconds: a second on two busy cores, and room
    assert found == {"read", "refused"} or request.config.getoption("--fuzz") < 100
    # sixteen numbers of four bytes for each allowed pixel, and what the libraries keep
    assert peak() - before < 64 * LIMIT + (64 << 20)
    assert settings == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert warnings.filters == filters
    assert capfd.readouterr() == ("", "")
