"""Folders of runs: each run has one of its own, also where several begin at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from nst.errors import RunError
from nst.run.folders import RunFolder


def test_folders_are_numbered_on_and_claimed_when_asked_for(tmp_path: Path) -> None:
    folders = [RunFolder(tmp_path) for _ in range(3)]
    assert not list(tmp_path.iterdir())
    assert [folder.path.name for folder in folders] == ["version_0", "version_1", "version_2"]
    assert folders[0].path.is_dir()
    (tmp_path / "lightning_logs" / "version_7").mkdir()
    (tmp_path / "lightning_logs" / "version_x").mkdir()
    assert RunFolder(tmp_path).path.name == "version_8"


def test_runs_that_begin_at_once_have_different_folders(tmp_path: Path) -> None:
    folders, start = [RunFolder(tmp_path) for _ in range(16)], threading.Barrier(16)

    def claim(folder: RunFolder) -> None:
        start.wait()
        _ = folder.path

    threads = [threading.Thread(target=claim, args=[folder]) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({folder.path for folder in folders}) == 16


def test_a_folder_that_cannot_be_made_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "lightning_logs").write_text("in the way")
    with pytest.raises(RunError, match=r"make a folder for the run in .*lightning_logs.*--trainer.default_root_dir"):
        _ = RunFolder(tmp_path).path
