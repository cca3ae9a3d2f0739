"""What a file is, what is refused before it is decoded, and how its record is read."""

from __future__ import annotations

import logging
import os
import struct
import subprocess
import warnings
import zlib
from pathlib import Path

import pytest
import tifffile
import torch
from PIL import Image, ImageFile, PngImagePlugin

from nst.errors import InputError
from nst.pictures import decoding, images
from nst.pictures.decoding import read_metadata
from nst.pictures.files import SUFFIXES
from tests.helpers import chunk, forget, peak


def test_a_decompression_bomb_is_refused_and_can_be_allowed(tmp_path: Path) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match=r"has 20000×20000, .*allow it with --data.max_pixels 400000000"):
        images.load(tmp_path / "bomb.png", "data.content")
    Image.new("L", (200, 100)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match="at most 19999 pixels"):
        images.load(tmp_path / "small.png", max_pixels=19_999)
    assert images.load(tmp_path / "small.png", max_pixels=20_000).width == 200


def test_a_file_that_no_picture_of_the_allowed_size_fills_is_refused() -> None:
    Path("a.png").write_bytes(b"")
    os.truncate("a.png", decoding.HEADERS + decoding.BYTES_PER_PIXEL * 1000 + 1)  # a hole
    with pytest.raises(InputError, match=r"at most 1000 pixels, but a.png is 67124865 bytes long, more than they need"):
        images.load("a.png", max_pixels=1000)


def test_only_formats_of_pictures_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    Path("a.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    Path("b.jpg").write_bytes(b"GRIB" + bytes(100))
    Path("c.xbm").write_text("#define a_width 8\n#define a_height 1\nstatic char a_bits[] = {0x0f};\n")
    for name in ("a.jpg", "b.jpg", "c.xbm"):
        with pytest.raises(
            InputError, match=rf"{name} is none that can be read; give one of PNG, JPEG, TIFF, .*, TGA$"
        ):
            images.load(name, "data.content")
        assert read_metadata(name) is None
    assert not {"EPS", "WMF", "MPEG", "HDF5"} & set(decoding.FORMATS)


@pytest.mark.parametrize("kind", [x for x in decoding.FORMATS if x not in ("PSD", "ICNS")])
def test_each_format_is_read(kind: str) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {kind}")
    Image.new("RGB", (32, 32), (255, 0, 0)).save("a", kind)
    assert images.load("a").rgb[0, :, 9, 9].tolist() == pytest.approx([1, 0, 0], abs=4 / 255)  # some are lossy


def test_what_is_no_file_is_refused() -> None:
    os.mkfifo("pipe.png")
    Path("loop.png").symlink_to("loop.png")
    for name, words in {
        "pipe.png": "pipe.png is a device or a pipe",
        "loop.png": r"loop.png cannot be read \(.*symbolic links.*\)",
        "x" * 300: r"x+ cannot be read \(File name too long\)",
        "a\0b.png": r"a\\x00b.png is a name that no file has",
        "two\nlines.png": r"two\\nlines.png does not exist",
        os.fsdecode(b"caf\xe9.png"): r"caf\\udce9.png does not exist",
        "": r"\. is a folder",
    }.items():
        with pytest.raises(InputError, match=rf"^Expected --data.content to be a picture file, but {words}$") as caught:
            images.load(name, "data.content")
        assert str(caught.value).encode() and str(caught.value).isprintable()
        assert read_metadata(name) is None


def test_a_file_that_vanishes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "isfile", lambda _: True)
    with pytest.raises(InputError, match=r"a picture file, but gone.png does not exist"):
        images.load("gone.png")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "decoded in this memory, but a.png cannot; it is damaged, or give a smaller one"),
        (zlib.error("two\nlines"), r"whole picture, but a.png is damaged \(two lines\)"),
        (IndexError(), r"whole picture, but a.png is damaged \(IndexError\)"),
        (NotImplementedError("x" * 1000), r"is damaged \(x{300}\.\.\.\)"),
    ],
)
def test_whatever_a_decoder_raises_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def refuse(*_: object) -> None:
        raise error

    Image.new("RGB", (8, 8)).save("a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    with pytest.raises(InputError, match=words):
        images.load("a.png", "data.content")


def test_interrupts_are_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    Image.new("RGB", (8, 8)).save("a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", stop)
    with pytest.raises(KeyboardInterrupt):
        images.load("a.png")


def test_settings_of_pillow_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12_345)
    filters, level = warnings.filters[:], logging.getLogger("PIL").level
    Image.new("RGB", (200, 100)).save("a.png")
    images.save(torch.rand(1, 3, 150, 150), "b.tif")
    for name in ("a.png", "b.tif"):
        assert images.load(name).width in (200, 150)  # our own limit counts
        assert read_metadata(name) is None
        Path(name).write_bytes(Path(name).read_bytes()[:60])
        with pytest.raises(InputError):
            images.load(name)
    assert (Image.MAX_IMAGE_PIXELS, warnings.filters, logging.getLogger("PIL").level) == (12_345, filters, level)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_record_is_found_without_decoding(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images.save(torch.zeros(1, 3, 8, 8), f"a{suffix}", metadata="how it was made")

    def refuse(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    assert read_metadata(f"a{suffix}") == "how it was made"


def test_the_record_of_a_large_picture_is_found() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("nst", "how it was made")
    Image.new("1", (20_000, 20_000)).save("a.png", pnginfo=text)
    before = forget()
    assert read_metadata("a.png") == "how it was made"
    assert peak() - before < 20_000_000


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_what_is_too_long_is_no_record(suffix: str) -> None:
    for length, found in ((decoding.LONGEST_TEXT, True), (decoding.LONGEST_TEXT + 1, False)):
        images.save(torch.zeros(1, 3, 8, 8), f"a{suffix}", metadata="x" * length)
        assert (read_metadata(f"a{suffix}") is not None) is found
        assert images.load(f"a{suffix}").width == 8


def test_texts_that_unpack_to_more_are_no_record() -> None:
    packed = zlib.compress(bytes([120]) * 10_000_000)
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND", b"")
    before = forget()
    for bomb in (chunk(b"zTXt", b"nst\0\0" + packed), chunk(b"iTXt", b"nst\0\1\0\0\0" + packed)):
        Path("a.png").write_bytes(head + bomb + rest)
        assert read_metadata("a.png") is None
        Path("b.png").write_bytes(head + 500 * bomb + rest)
        assert read_metadata("b.png") is None
    assert peak() - before < 150_000_000  # Pillow keeps 64 MiB of texts, and joins them


def test_no_more_is_read_than_a_header_needs() -> None:
    images.save(torch.zeros(1, 3, 8, 8), "a.tif", metadata="x" * 1000)
    data = bytearray(Path("a.tif").read_bytes())
    at = data.find(struct.pack("<HHI", 270, 2, 1001))
    struct.pack_into("<I", data, at + 4, 400_000_000)
    Path("a.tif").write_bytes(data)
    os.truncate("a.tif", 500_000_000)  # a hole
    before = forget()
    assert read_metadata("a.tif") is None
    assert peak() - before < 100_000_000


def test_a_record_in_a_sixteen_bit_file_of_another_program_is_found() -> None:
    values = torch.zeros(8, 8, 3).numpy().astype("u2")
    tifffile.imwrite("a.tif", values, photometric="rgb", description="how", metadata=None)
    assert read_metadata("a.tif") == "how"
