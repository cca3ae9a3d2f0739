"""Names, atomic writes and what is found out about an output before the first step."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from PIL import Image

from nst.errors import InputError, RunError, one_line, shown
from nst.pictures import files, images
from nst.pictures.files import SUFFIXES

LONGEST = "n" * 251 + ".png"
"""A name of 255 bytes, the most that common file systems hold."""


def text(words: str) -> Callable[[IO[bytes]], None]:
    def write(file: IO[bytes]) -> None:
        file.write(words.encode())

    return write


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("photo.png", "photo.png"),
        ("Müller’s 画.png", "Müller’s 画.png"),
        ("two\nlines.png", "two\\nlines.png"),
        (os.fsdecode(b"caf\xe9.png"), "caf\\udce9.png"),
        ("100%s.png", "100%s.png"),
        ("a\x1b[31m.png", "a\\x1b[31m.png"),
    ],
)
def test_names_can_be_printed(name: str, words: str) -> None:
    assert shown(name) == words
    assert shown(name).encode() and shown(name).isprintable()


def test_long_texts_are_one_line_with_an_end() -> None:
    assert one_line("a\n  b\tc") == "a b c"
    assert one_line("x" * 1000) == "x" * 300 + "..."
    assert one_line("\0") == "\\x00"


def test_a_write_replaces_what_was_there_and_follows_the_umask() -> None:
    before = os.umask(0o027)
    try:
        for words in ("one", "two"):
            files.write_atomically(Path("a.png"), text(words))
            assert Path("a.png").read_text() == words
        assert Path("a.png").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)
    assert names() == ["a.png"]


@pytest.mark.parametrize("name", [LONGEST, "-a.png", "100%s.png", "two\nlines.png", os.fsdecode(b"caf\xe9.png")])
def test_odd_names_are_written_and_read(name: str) -> None:
    files.check_output(name)
    assert not names()
    images.save(torch.zeros(1, 3, 8, 8), name)
    files.check_output(name)
    assert images.load(name).width == 8
    assert names() == [name]
    Path(name).write_bytes(b"damaged")
    with pytest.raises(InputError) as caught:
        images.load(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("broken data stream"), "broken data stream"),
        (RuntimeError("[enforce fail at\ninline_container.cc]"), r"\[enforce fail at inline_container.cc\]"),
        (ValueError(), "ValueError"),
    ],
)
def test_a_disk_that_refuses_leaves_what_was_there(error: Exception, words: str) -> None:
    Path("a.png").write_text("before")

    def full(file: IO[bytes]) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(RunError, match=rf"write a.png, but the system says: {words}; what was .*unchanged. Make room"):
        files.write_atomically(Path("a.png"), full)
    with pytest.raises(RunError, match=rf"{words}; .*unchanged. Buy a disk$"):
        files.write_atomically(Path("a.png"), full, "Buy a disk")
    assert Path("a.png").read_text() == "before"
    assert names() == ["a.png"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError, RunError])
def test_what_is_no_failure_of_the_disk_passes_and_nothing_is_left(error: type[BaseException]) -> None:
    def stop(file: IO[bytes]) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(error):
        files.write_atomically(Path("a.png"), stop)
    assert not names()


@pytest.fixture
def _small_disk() -> Iterator[None]:
    """No file may grow past 100 kB."""
    resource: Any = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("_small_disk")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_format_reports_a_full_disk(suffix: str) -> None:
    with pytest.raises(RunError, match=rf"write a{suffix}, but the system says: File too large"):
        images.save(torch.rand(1, 3, 400, 400), f"a{suffix}")
    assert not names()


@pytest.mark.usefixtures("_small_disk")
def test_what_torch_hides_of_a_full_disk_is_found() -> None:
    with pytest.raises(RunError, match="the system says: File too large"):
        files.write_atomically(Path("a.ckpt"), lambda file: torch.save(torch.rand(100_000), file))
    assert not names()


def test_outputs_are_checked_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    files.check_output("a.png")
    assert not names()
    for name, words in {
        "a.bmp": r"--output to end in one of .png, .*, but got a.bmp",
        "nowhere/a.png": r"in a folder that exists, but nowhere does not; make it first",
        "n" + LONGEST: r"a name that the file system takes, but it refuses n.*.png \(File name too long\)",
        "a\0.png": r"a file's name, but a\\x00.png has a null character",
    }.items():
        with pytest.raises(InputError, match=words):
            files.check_output(name)
    with pytest.raises(InputError, match="Expected --sheet to end in"):
        files.check_output("a.bmp", "sheet")
    Path("b.png").mkdir()
    with pytest.raises(InputError, match=r"a file, but b.png is a folder"):
        files.check_output("b.png")
    os.mkfifo("c.png")
    with pytest.raises(InputError, match=r"c.png is a device or a pipe"):
        files.check_output("c.png")
    Path("d.png").write_text("before")
    files.check_output("d.png")
    assert Path("d.png").read_text() == "before"

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files, "_touch", refuse)
    with pytest.raises(InputError, match=r"in a folder that can be written, but . cannot \(Permission denied\)"):
        files.check_output("a.png")


def test_another_users_file_in_a_sticky_folder_cannot_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.png").touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    files.check_output("a.png")
    Path().chmod(0o1777)
    with pytest.raises(InputError, match=r"can be replaced, but a.png is another user's; choose another name"):
        files.check_output("a.png")


def test_formats_have_a_largest_size() -> None:
    files.check_size("a.png", 100_000, 100_000)
    files.check_size("a.TIF", 100_000, 100_000)
    files.check_size("a.webp", 16_383, 16_383)
    files.check_size("a.jpg", 65_500, 65_500)
    with pytest.raises(InputError, match=r"hold 16384×9 pixels, but a.webp is WebP, which holds at most 16383 .*.png"):
        files.check_size("a.webp", 9, 16_384)
    with pytest.raises(InputError, match=r"--sheet .*a.JPEG is JPEG, which holds at most 65500 pixels a side"):
        files.check_size("a.JPEG", 65_501, 9, "sheet")


def test_the_largest_sizes_are_those_of_the_encoders() -> None:
    for name in ("a.webp", "a.jpg"):
        longest = files.LONGEST_SIDES[Path(name).suffix]
        Image.new("RGB", (longest, 1)).save(name)
        with pytest.raises((OSError, ValueError)):
            Image.new("RGB", (longest + 1, 1)).save(name)


def test_the_same_place_has_many_names() -> None:
    Path("folder").mkdir()
    Path("photo.png").touch()
    Path("soft.png").symlink_to("photo.png")
    Path("dangling.png").symlink_to("none.png")
    Path("link").symlink_to("folder")
    os.link("photo.png", "hard.png")
    for name in (
        "photo.png",
        "./photo.png",
        "folder/../photo.png",
        "soft.png",
        "hard.png",
        Path("photo.png").resolve(),
    ):
        assert files.same_place("photo.png", name)
    assert files.same_place("none.png", "dangling.png")
    assert files.same_place("folder/a/b.png", "link/a/b.png")
    for name in ("other.png", "folder", "photo.jpg", "PHOTO.PNG", "", "a\0b", "x" * 5000, os.fsdecode(b"caf\xe9.png")):
        assert not files.same_place("photo.png", name)
    assert not files.same_place("folder/a.png", "a.png")


def test_case_matters_where_the_file_system_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("probe").touch()
    matters = not Path("PROBE").exists()
    assert files.ignores_case(Path("none/yet").resolve()) is not matters
    assert names() == ["probe"]
    monkeypatch.setattr(files, "ignores_case", lambda _: True)
    assert files.same_place("none/Müller.png", "none/MU\u0308LLER.PNG")
    assert not files.same_place("none/a.png", "none/b.png")
    monkeypatch.setattr(files, "ignores_case", lambda _: False)
    assert not files.same_place("none/a.png", "none/A.png")


def test_an_input_is_not_overwritten() -> None:
    Path("photo.png").touch()
    os.link("photo.png", "hard.png")
    files.check_overwrites("a.png", ["photo.png", "none.png"])
    with pytest.raises(InputError, match=r"--output not to overwrite what the picture is made of, but hard.png is one"):
        files.check_overwrites("hard.png", ["other.png", "photo.png"])
    with pytest.raises(InputError, match=r"Expected --sheet not to"):
        files.check_overwrites("photo.png", ["photo.png"], "sheet")
