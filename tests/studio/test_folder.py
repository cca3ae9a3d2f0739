"""The studio's one folder: who may have what, and what is cleaned away."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nst.studio.folder import Folder
from tests.helpers import draw


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "files", 3600, 1000)


def test_only_files_of_runs_by_their_names(folder: Folder, tmp_path: Path) -> None:
    run = folder.new_run()
    for name in ("picture.png", "content.png"):
        (run / name).write_bytes(b"x")
    (tmp_path / "files" / "runs" / "picture.png").write_bytes(b"x")
    assert folder.file(run.name, "picture.png") == run / "picture.png"
    for token, name in (
        (run.name, "content.png"),
        (run.name, "../picture.png"),
        (run.name, "picture.jpg"),
        ("..", "picture.png"),
        ("", "picture.png"),
        (run.name[:-1] + "/", "picture.png"),
    ):
        assert folder.file(token, name) is None


def test_results_are_pictures_that_are_there_whoever_made_them(folder: Folder) -> None:
    made, going, saved, gone = (folder.new_run() for _ in range(4))
    for run in (made, going, saved):
        (run / "title.txt").write_text(f"title of {run.name}", encoding="utf-8")
    for path in (made / "picture.png", made / "picture.jpg", saved / "picture.jpg"):
        path.write_bytes(b"x")
    gone.rmdir()
    again = Folder(folder.root, 3600, 1000)
    tokens = ["../..", 7, gone.name, going.name, saved.name, made.name]
    assert again.results(tokens) == [(str(made / "picture.jpg"), f"title of {made.name}")]


def test_only_what_was_sent_is_taken(folder: Folder, tmp_path: Path) -> None:
    sent = draw(folder.uploads / "a.png")
    assert folder.uploaded(sent, "data.content", 10**6) == sent
    outside = draw(tmp_path / "b.png")
    (folder.uploads / "link.png").symlink_to(outside)
    for path in (outside, folder.uploads / ".." / ".." / "b.png", folder.uploads / "link.png", "/etc/passwd", None, ""):
        with pytest.raises(ValueError, match=r"Expected --data.content to be a file that was sent"):
            folder.uploaded(path, "data.content", 10**6)
    with pytest.raises(ValueError, match=r"but a.png has 48×40, which may.*--studio.max_pixels 1920"):
        folder.uploaded(sent, "data.content", 1000)
    (folder.uploads / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"Expected --data.style to be a picture file"):
        folder.uploaded(folder.uploads / "text.png", "data.style", 10**6)


def test_the_old_and_then_the_oldest_are_cleaned_away(folder: Folder) -> None:
    now = time.time()
    for name, size, age in (("old", 1, 7200), ("busy", 900, 7000), ("first", 600, 300), ("second", 600, 200)):
        run = folder.runs / name
        run.mkdir()
        (run / "x").write_bytes(b"x" * size)
        for path in (run / "x", run):
            os.utime(path, (now - age, now - age))
    folder.clean(busy={"busy"})
    assert sorted(x.name for x in folder.runs.iterdir()) == ["busy", "second"]


def test_nobody_else_reads_it(folder: Folder) -> None:
    assert folder.root.stat().st_mode & 0o77 == 0


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"Expected --studio.folder to be a folder that can be written"):
        Folder(tmp_path / "file" / "x", 1, 1)
