"""Runs that are killed, and disks that are full: nothing that could be kept is lost."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from PIL import Image

from nst.cli.main import main
from nst.pictures import files, images
from tests.helpers import TINY, fit

pytestmark = pytest.mark.usefixtures("pair")

FORKER = """
import gc, os, sys, torch
import torch.utils.tensorboard
from PIL import Image
import nst.cli.fit
from nst.cli.main import main
torch.set_num_threads(1)  # threads do not survive a fork
Image.init()
gc.freeze()
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        os._exit(main(line.rstrip("\\n").split("\\t")))
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""
"""Runs commands in processes of their own, without loading torch, Lightning and Pillow's formats for each."""


class Forker:
    """Starts commands; each may be killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str, seconds: float | None = None, seen: Callable[[], bool] = lambda: True) -> int:
        """Runs a command, and kills it some seconds after something is seen; returns the system's status of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print("\t".join(arguments), file=self.process.stdin, flush=True)
        child = int(self.process.stdout.readline())
        if seconds is not None:
            while not seen():
                time.sleep(0.005)
            time.sleep(seconds)
            with suppress(ProcessLookupError):  # it may have ended before
                os.kill(child, 9)
        return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture
def forker() -> Iterator[Forker]:
    found = Forker()
    yield found
    found.close()


def saved(root: Path) -> bool:
    """Whether a run has written its first checkpoint."""
    return any(root.rglob("last.ckpt"))


def values(path: str | Path) -> Any:
    return np.asarray(Image.open(path))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("quarter", range(4))  # of all kills, on as many cores as there are
def test_runs_that_are_killed_at_any_moment_end_in_the_same_picture(
    forker: Forker, pytestconfig: pytest.Config, quarter: int
) -> None:
    moments = random.Random(quarter)
    kills = pytestconfig.getoption("kills") // 4
    command = ["fit", *TINY, "--model.backbone", "compact", "--model.weights", "imagenet", "--data.size", "48"]
    command += ["--data.content", "photo.png", "--data.style", "painting.png", "--checkpoints.every_n_steps", "1"]
    command += ["--data.min_size", "32", "--data.ratio", "1.5", "--data.steps", "5", "--model.average", "0.5"]
    assert forker.run(*command, "--output", "straight.png") == 0
    start = time.monotonic()  # of the second run, as the first one reads more from the disk
    assert forker.run(*command, "--output", "straight.png") == 0
    took, torn, in_steps = time.monotonic() - start, 0, 0
    expected = values("straight.png")
    for number in range(kills):
        root = Path(f"run_{number}")
        run = [*command, "--trainer.default_root_dir", str(root), "--output", f"{number}.png"]
        if number % 2:  # at any moment of the steps, however long the machine takes to the first one
            forker.run(*run, seconds=moments.uniform(0, took / 4), seen=partial(saved, root))
        else:
            forker.run(*run, seconds=moments.uniform(0, 1.05 * took))
        for path in root.rglob("last.ckpt"):
            in_steps += 1
            torn += "nst" not in torch.load(path, weights_only=True)
        for path in [*root.rglob("result.png"), *Path().glob(f"{number}.png")]:
            torn += values(path).shape != expected.shape
        resume = ["--ckpt_path", "last"] if [*root.rglob("last.ckpt")] else []
        assert forker.run(*run, *resume) == 0, number
        np.testing.assert_array_equal(values(f"{number}.png"), expected, err_msg=str(number))
    assert torn == 0
    assert in_steps >= kills // 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip("only an administrator may mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> None:
    """Fills a disk but for some bytes."""
    room = os.statvfs(folder)
    (folder / "filler").write_bytes(bytes(max(0, room.f_bavail * room.f_bsize - leave)))


def test_a_full_disk_at_the_first_checkpoint_leaves_the_picture_on_another(
    small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(small_disk, 48 << 10)
    options = ["--trainer.default_root_dir", str(small_disk), "--output", "out.png", "--checkpoints.every_n_steps", "1"]
    assert fit(*options, steps=9) == 1
    err = capfd.readouterr().err
    assert err.startswith("nst: error: Expected to write ")
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert values("out.png").shape == (40, 48, 3)
    assert not [x for x in small_disk.rglob("*") if x.is_file() and x.name.startswith(".")]


def test_a_full_disk_at_the_picture_leaves_the_one_in_the_runs_folder(
    small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (small_disk / "out.png").write_bytes(b"before")
    fill(small_disk, 0)
    assert fit("--output", str(small_disk / "out.png"), steps=1) in (1, 2)
    err = capfd.readouterr().err
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert (small_disk / "out.png").read_bytes() == b"before"


def fail(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Lets writing fail for all files whose name has a part."""
    original = files.write_atomically

    def write(path: Path, write: Any, *rest: Any) -> None:
        def half(file: IO[bytes]) -> None:
            file.write(b"half")
            raise error

        original(path, half if name in str(path) else write, *rest)

    for module in (files, images):
        monkeypatch.setattr(module, "write_atomically", write)


FULL = OSError(errno.ENOSPC, "No space left on device")
TORCH = RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")


@pytest.mark.parametrize("error", [FULL, TORCH], ids=["system", "torch"])
@pytest.mark.parametrize("place", ["config.yaml", "last.ckpt", "result.png", "out.png"])
def test_a_disk_that_is_full_at_one_place_takes_nothing_from_the_others(
    place: str, error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        fail(patched, place, error)
        assert fit("--output", "out.png", steps=2) == 1
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert f"{place}, but the system says: " in err
    written = {path.name for path in Path().rglob("*") if path.is_file()}
    assert not [name for name in written if name.startswith(".")]
    expected = {"config.yaml": set[str](), "last.ckpt": {"result.png", "out.png"}}
    others = expected.get(place, {"result.png", "out.png", "last.ckpt", "config.yaml"} - {place})
    assert others <= written
    if place in ("result.png", "out.png"):
        assert f"; the picture is in {'out.png' if place == 'result.png' else 'lightning_logs'}" in err


def test_a_full_disk_fails_one_picture_of_a_batch(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("photo2.png").write_bytes(Path("photo.png").read_bytes())
    command = ["batch", *TINY, "--data.content", "photo.png", "photo2.png", "--data.style", "painting.png"]
    command += ["--data.steps", "1", "--output", "out"]
    with monkeypatch.context() as patched:
        fail(patched, "photo.png", FULL)
        assert main(command) == 1
    out = capfd.readouterr().out
    assert "1/2  failed   photo.png: Expected to write out/photo.png, but the system says: No space left" in out
    assert "2/2  made     photo2.png" in out
    assert sorted(path.name for path in Path("out").iterdir()) == ["photo2.png"]
