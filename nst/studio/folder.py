"""The studio's one folder: a folder for each run, what came from browsers, and what is cleaned away."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from nst.errors import InputError
from nst.pictures import decoding

NAMES = ("picture.png", "picture.jpg", "picture.webp", "picture.tif", "before.jpg", "settings.yaml", "map.png")
"""The files of a run that a browser may have."""

TITLE = "title.txt"
"""The file of a run that says what it is, for people."""

TOKEN = re.compile(r"[\w-]{22}")
"""A run's name, which nobody can guess: who knows it may see the picture."""


class Folder:
    """All files of the studio: `runs/TOKEN/` and `uploads/`.

    Args:
        root: The folder; it is made where there is none.
        max_age: Seconds after which files are removed.
        max_bytes: Bytes above which the oldest files are removed.

    Raises:
        InputError: If the folder cannot be made.
    """

    def __init__(self, root: Path, max_age: float, max_bytes: int) -> None:
        self.root, self.max_age, self.max_bytes = root.absolute(), max_age, max_bytes
        self.runs, self.uploads = self.root / "runs", self.root / "uploads"
        for folder in (self.runs, self.uploads):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(
                    f"Expected --studio.folder to be a folder that can be written, but {root} cannot ({error.strerror})"
                ) from None
        self.root.chmod(0o700)

    def new_run(self) -> Path:
        """Makes the folder of a run, under a name that nobody can guess."""
        folder = self.runs / secrets.token_urlsafe(16)
        folder.mkdir()
        return folder

    def file(self, token: str, name: str) -> Path | None:
        """Returns a file of a run; None where there is none or a browser may not have it."""
        if not TOKEN.fullmatch(token) or name not in NAMES:
            return None
        path = self.runs / token / name
        return path if path.is_file() else None

    def results(self, tokens: Sequence[object]) -> list[tuple[str, str]]:
        """Returns the pictures of runs whose files are all there (`picture.png` is the last), each with its title."""
        found = [path.parent for x in tokens if (path := self.file(str(x), "picture.png"))]
        titles = [(folder / "picture.jpg", folder / TITLE) for folder in found]
        return [(str(path), title.read_text(encoding="utf-8")) for path, title in titles if title.is_file()]

    def uploaded(self, path: object, key: str, max_pixels: int) -> Path:
        """Returns the path of a picture that a browser has sent, once its size is known to be allowed.

        Raises:
            InputError: If it is no such file, or no picture, or claims more than `max_pixels` pixels.
        """
        found = Path(str(path)).resolve()
        if not found.is_relative_to(self.uploads.resolve()) or not found.is_file():
            raise InputError(f"Expected --{key} to be a file that was sent to the studio; send it first")
        try:
            decoding.check(found, key, max_pixels)
        except InputError as error:
            said = str(error).replace("--data.max_pixels", "--studio.max_pixels")
            raise InputError(said.replace(str(found), found.name)) from None  # where files lie is nobody's business
        return found

    def keep(self, path: Path, folder: Path, name: str) -> Path:
        """Copies an upload into a run's folder, so that it stays as long as the run."""
        kept = folder / f"{name}{path.suffix.lower()}"
        shutil.copyfile(path, kept)
        return kept

    def clean(self, busy: Collection[str] = ()) -> None:
        """Removes what is too old, and then the oldest until the rest is small enough.

        Args:
            busy: Names of runs that go on, which stay.
        """
        entries = [x for folder in (self.runs, self.uploads) for x in folder.iterdir() if x.is_dir()]
        entries = [x for x in entries if x.name not in busy]
        found = []
        for entry in entries:
            with suppress(OSError):
                inside = [x.stat() for x in entry.rglob("*") if x.is_file()]
                changed = max(x.st_mtime for x in (entry.stat(), *inside))
                found.append((changed, sum(x.st_size for x in inside), entry))
        left = sum(size for _, size, _ in found)
        for changed, size, entry in sorted(found):
            if left <= self.max_bytes and time.time() - changed <= self.max_age:
                break
            left -= size
            shutil.rmtree(entry, ignore_errors=True)
