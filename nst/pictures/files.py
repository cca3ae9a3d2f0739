"""Files of results: checks of an output path, and writes that are whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

from nst.errors import InputError, RunError, one_line, shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
"""Formats that a result can be written in; TIFF has 16 bits a channel, the others 8."""

LONGEST_SIDES = {".jpg": 65_500, ".jpeg": 65_500, ".webp": 16_383}
"""Longest side, in pixels, of a format or, for JPEG, its library; the other formats hold more than fits in memory."""

REMEDY = "Make room, or choose another place with --output or --trainer.default_root_dir"


def write_atomically(path: Path, write: Callable[[IO[bytes]], None], remedy: str = REMEDY) -> None:
    """Writes a temporary file in the target's folder, and renames it to the target when it is whole and on the disk.

    Args:
        path: The target; an existing file is replaced.
        write: Writes the contents into an open file.
        remedy: What the user can do about a failed write.

    Raises:
        RunError: If the file cannot be written; an existing file is untouched, and no temporary file is left behind.
    """
    part = _part(path.parent)
    try:
        with open(part, "x+b") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync(path.parent)
    except (InputError, RunError):
        raise
    except Exception as error:  # torch, tifffile and zlib raise errors of their own for a full disk
        raise RunError(
            f"Expected to write {shown(path)}, but the system says: {_reason(error)}; what was there before is "
            f"unchanged. {remedy}"
        ) from error
    finally:
        with suppress(OSError, ValueError):
            part.unlink()


def write_text(path: Path, text: str) -> None:
    """Writes a text as UTF-8 with `write_atomically`."""

    def write(file: IO[bytes]) -> None:
        file.write(text.encode("utf-8", "surrogateescape"))

    write_atomically(path, write)


def check_output(path: str | os.PathLike[str], key: str = "output") -> None:
    """Raises an InputError unless a picture can be written to a path; an existing file is untouched.

    Args:
        path: The path of the picture.
        key: The setting that named the path, for error messages.
    """
    suffix_of(Path(path), key)
    check_place(Path(path), key)


def check_place(path: Path, key: str = "output") -> None:
    """Raises an InputError unless a file can be written to a path; an existing file is untouched.

    Args:
        path: The path.
        key: The setting that named the path, for error messages.
    """
    if "\0" in str(path):
        raise InputError(f"Expected --{key} to be a file's name, but {shown(path)} has a null character; leave it out")
    if not os.path.isdir(path.parent):
        folder = shown(path.parent)
        raise InputError(f"Expected --{key} to be in a folder that exists, but {folder} does not; make it first")
    try:
        _touch(_part(path.parent))
    except OSError as error:
        raise InputError(
            f"Expected --{key} to be in a folder that can be written, but {shown(path.parent)} cannot "
            f"({_reason(error)}); choose another"
        ) from None
    try:
        there = _status(path)
        if there is None:
            _touch(path)  # a name may be too long, or have characters that a file system refuses
            return
    except OSError as error:
        raise InputError(
            f"Expected --{key} to have a name that the file system takes, but it refuses {shown(path)} "
            f"({_reason(error)}); choose another"
        ) from None
    if os.path.isdir(path):
        raise InputError(f"Expected --{key} to be a file, but {shown(path)} is a folder")
    if not stat.S_ISREG(there.st_mode) and not stat.S_ISLNK(there.st_mode):
        raise InputError(f"Expected --{key} to be a file, but {shown(path)} is a device or a pipe; choose another name")
    if not _replaceable(path, there):
        raise InputError(
            f"Expected --{key} to be a file that can be replaced, but {shown(path)} is another user's; "
            "choose another name"
        )


def check_size(path: str | os.PathLike[str], height: int, width: int, key: str = "output") -> None:
    """Raises an InputError if the format of a path's suffix cannot hold a picture of height × width pixels."""
    longest = LONGEST_SIDES.get(suffix := Path(path).suffix.lower())
    if longest is not None and max(height, width) > longest:
        name = "WebP" if suffix == ".webp" else "JPEG"
        raise InputError(
            f"Expected --{key} to be a format that can hold {width}×{height} pixels, but {shown(path)} is {name}, "
            f"which holds at most {longest} pixels a side; use .png or .tif"
        )


def check_overwrites(
    output: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]], key: str = "output"
) -> None:
    """Raises an InputError if an output is the same file as one of the inputs, by whatever name."""
    if any(same_place(output, path) for path in inputs):
        raise InputError(
            f"Expected --{key} not to overwrite what the picture is made of, but {shown(output)} is one of the inputs; "
            "choose another name"
        )


def same_place(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Tells whether two paths, of files that need not exist, lead to the same file.

    Symbolic links are followed, hard links are the same file, and names that differ in case alone are the same where
    the folder's file system ignores case. An invalid path is never the same as another.
    """
    try:
        return _same(Path(os.path.realpath(a)), Path(os.path.realpath(b)))
    except (OSError, ValueError):
        return False


def suffix_of(path: Path, key: str = "output") -> str:
    """Returns the suffix of an output path in lower case; raises an InputError unless it is one of SUFFIXES."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"Expected --{key} to end in one of {', '.join(SUFFIXES)}, but got {shown(path)}")
    return suffix


def _part(folder: Path) -> Path:
    """Returns a new path for a temporary file, whose name is short even where the target has the longest name."""
    return folder / f".nst-{secrets.token_hex(8)}.part"


def _touch(path: Path) -> None:
    """Creates an empty file at a path without a file, and deletes it."""
    with open(path, "xb"):
        pass
    path.unlink()


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _replaceable(path: Path, there: os.stat_result) -> bool:
    """Tells whether a file may be replaced: in a sticky folder such as /tmp, only the file's or folder's owner may."""
    if not hasattr(os, "geteuid"):
        return os.access(path, os.W_OK)  # Windows does not replace read-only files
    folder = os.stat(path.parent)
    return not folder.st_mode & stat.S_ISVTX or os.geteuid() in (0, there.st_uid, folder.st_uid)


def _sync(folder: Path) -> None:
    """Flushes a folder's entries to the disk, on systems that support it."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _reason(error: BaseException) -> str:
    """Returns the system's message for a failed write, also where a library hid it behind an error of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return one_line(error) or type(error).__name__


def _same(a: Path, b: Path) -> bool:
    if os.path.exists(a) and os.path.exists(b):
        return os.path.samefile(a, b)
    if a == b:
        return True
    if not a.name or not b.name or not _same(a.parent, b.parent):
        return False
    return a.name == b.name or (_folded(a.name) == _folded(b.name) and ignores_case(a.parent))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


def ignores_case(folder: Path) -> bool:
    """Tells whether a folder ignores case in names; a missing folder stands for its nearest existing parent."""
    while not os.path.isdir(folder) and folder.name:
        folder = folder.parent
    return _probed(str(folder))


@cache
def _probed(folder: str) -> bool:
    part = _part(Path(folder))
    try:
        with open(part, "xb"):
            return part.with_name(part.name.upper()).exists()
    except OSError:
        return False  # nothing can be written there
    finally:
        with suppress(OSError):
            part.unlink()
