"""Files on other file systems, such as `s3://bucket/photos/*.jpg`, by fsspec.

A picture is made on this machine, of copies in a folder of the cache, each under its own address, and its file is sent
back when it is whole. A copy that is there is taken again as long as the file is what it was; all may be removed when
no run goes on.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nst.errors import InputError, RunError, one_line
from nst.pictures import files

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://.")
"""What addresses begin with, and no path of this machine."""


def is_address(name: object) -> bool:
    """Whether a file is named by an address on another file system."""
    return ADDRESS.match(str(name)) is not None


def expanded(pattern: str, key: str) -> list[str]:
    """Returns the addresses of the files that match a pattern, in order.

    Args:
        pattern: An address, which may have `*` and `?`.
        key: The setting that has it, for error messages.

    Raises:
        InputError: If the file system cannot be reached, or fsspec knows none of this name.
    """
    with _system(pattern, key) as (system, path, _):
        names = [path] if system.isfile(path) else sorted(system.glob(path))
        return [system.unstrip_protocol(name) for name in names if system.isfile(name)]


def place(address: str, key: str = "output") -> Path:
    """Returns the file of this machine that is, or is to be, the copy of an address: files of one folder are in one."""
    with _system(address, key) as (_, _, to):
        return to


def copy(address: str, key: str) -> Path:
    """Returns the copy of an address, which is fetched unless it is there.

    Raises:
        InputError: If there is no such file.
    """
    with _system(address, key) as (system, path, to):
        to.parent.mkdir(parents=True, exist_ok=True)
        stamp, now = _stamp(to), str(system.ukey(path))
        if not (to.is_file() and stamp.is_file() and stamp.read_text(encoding="utf-8") == now):
            with system.open(path, "rb") as source:
                files.write_atomically(to, lambda file: shutil.copyfileobj(source, file))
            files.write_text(stamp, now)
        return to


def follow(address: str, key: str) -> Path:
    """Returns the file that is the copy of an address: there is one where there is one at the address."""
    with _system(address, key) as (system, path, to):
        system.invalidate_cache()
        if system.isfile(path):
            return copy(address, key)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.unlink(missing_ok=True)
        return to


def send(address: str, key: str) -> None:
    """Sends the copy of an address to it: another process sees the whole file or none."""
    with _system(address, key) as (system, path, to), to.open("rb") as source:
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        with system.transaction, system.open(path, "wb") as file:
            shutil.copyfileobj(source, file)
        system.invalidate_cache()
        files.write_text(_stamp(to), str(system.ukey(path)))


def remove(address: str, key: str) -> None:
    """Removes the file at an address, where there is one."""
    with _system(address, key) as (system, path, _), suppress(FileNotFoundError):
        system.rm_file(path)


def fetched(words: Sequence[str]) -> list[str]:
    """Returns options in which addresses that settings of the data have are replaced by their copies."""
    found: list[str] = []
    for i, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if equals and flag.startswith("--data.") and is_address(value):
            found.append(f"{flag}={copy(value, flag.strip('-+'))}")
        elif i and words[i - 1].startswith("--data.") and is_address(word):
            found.append(str(copy(word, words[i - 1].strip("-+"))))
        else:
            found.append(word)
    return found


def _stamp(copied: Path) -> Path:
    """Returns the file that says what a copy was copied of."""
    return copied.with_name(f".{copied.name}.stamp")


def _copied(address: str) -> Path:
    folder, _, name = address.rpartition("/")
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nst" / "remote"
    name = name if name not in ("", ".", "..") else "file"  # an object's key may be anything
    return root / hashlib.sha256(folder.encode()).hexdigest()[:32] / name.replace(os.sep, "_")


@contextmanager
def _system(address: str, key: str) -> Iterator[tuple[Any, str, Path]]:
    """Gives a file system, a path in it, and the place of its copy; what goes wrong there becomes an InputError."""
    try:
        import fsspec.core
    except ModuleNotFoundError:
        raise InputError(
            f"Expected fsspec to be installed for addresses such as {address}; install it with "
            "`python3 -m pip install 'nst[cluster]'`"
        ) from None
    try:
        if "::" in address:  # with which fsspec joins file systems, and which the name of a stranger's file may have
            raise InputError(f"Expected --{key} to be an address without ::, but got {one_line(address, longest=300)}")
        system, path = fsspec.core.url_to_fs(address)
        yield system, path, _copied(system.unstrip_protocol(path))
    except (InputError, RunError):
        raise
    except Exception as error:  # each file system has errors of its own
        reason = one_line(error, longest=300) or type(error).__name__
        raise InputError(
            f"Expected --{key} to be an address that can be reached, but got {one_line(address, longest=300)}: {reason}"
        ) from None
