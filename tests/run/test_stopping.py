"""Signals at every phase: exit codes, words, nothing torn, and a run that goes on to the same picture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nst.cli.main import main
from nst.optimise.module import StyleTransfer
from nst.optimise.targets import LevelScan
from nst.pictures import files
from nst.run.stopping import SIGNALS, Stop
from nst.scene.data import PictureData
from tests.helpers import TINY, draw, fit

pytestmark = pytest.mark.usefixtures("pair")

LEVELS = ["--data.size", "64", "--data.min_size", "48", "--data.ratio", "1.3", "--checkpoints.every_n_steps", "1"]
PHASES: dict[str, tuple[Any, str, int]] = {
    "while pictures are read": (PictureData, "setup", 1),
    "while the network is loaded": (StyleTransfer, "prepare", 1),
    "while targets are computed": (LevelScan, "activations", 1),
    "in a step": (StyleTransfer, "training_step", 2),
    "between levels": (StyleTransfer, "begin_level", 2),
    "in a save": (os, "fsync", 4),
    "in the last save": (os, "fsync", 14),
}
BEFORE = ("while pictures are read", "while the network is loaded")


@pytest.fixture(params=SIGNALS, ids=lambda number: number.name)
def number(request: pytest.FixtureRequest) -> signal.Signals:
    found: signal.Signals = request.param
    return found


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Signals are heard also where the tests were started in the background, which ignores some."""
    heard = {x: signal.default_int_handler if x == signal.SIGINT else signal.SIG_DFL for x in SIGNALS}
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int, number: signal.Signals, times: int = 1
) -> Callable[[], int]:
    """Sends this process a signal when a function is called for the `at`-th time; returns what counts the calls."""
    original, calls = getattr(owner, name), 0

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, called)
    return lambda: calls


def values(path: str | Path) -> Any:
    return np.asarray(Image.open(path))


def check_nothing_is_torn(folder: Path = Path()) -> None:
    assert not list(folder.rglob("*.part*"))
    for path in folder.rglob("last.ckpt"):
        assert torch.load(path, weights_only=True)["nst"]
    for path in folder.rglob("*.png"):
        Image.open(path).load()


@pytest.mark.parametrize("phase", PHASES)
def test_a_signal_at_any_phase_ends_a_run_that_can_go_on(
    phase: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(*LEVELS, "--output", "straight.png", "--trainer.default_root_dir", "straight") == 0
    capfd.readouterr()
    with monkeypatch.context() as patched:
        calls = interrupt(patched, *PHASES[phase], number)
        code = fit(*LEVELS, "--output", "stopped.png")
    assert calls() >= PHASES[phase][2]
    assert code == 128 + number
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    check_nothing_is_torn()
    if phase in BEFORE:
        assert err == f"nst: stopped by {number.name}\n"
        assert not Path("lightning_logs").exists()
        assert not Path("stopped.png").exists()
        return
    assert err == "\nstopping after this step (once more: at once)\n"
    assert "resume    nst fit" in out
    np.testing.assert_array_equal(values("stopped.png"), values("lightning_logs/version_0/result.png"))
    assert fit(*LEVELS, "--ckpt_path", "last", "--output", "resumed.png") == 0
    np.testing.assert_array_equal(values("resumed.png"), values("straight.png"))


def test_a_second_signal_ends_it_at_once_and_what_was_kept_remains(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fit(*LEVELS, "--output", "straight.png", "--trainer.default_root_dir", "straight") == 0
    with monkeypatch.context() as patched:
        interrupt(patched, StyleTransfer, "training_step", 3, number, times=2)
        assert fit(*LEVELS, "--output", "stopped.png") == 128 + number
    check_nothing_is_torn()
    assert torch.load("lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert Path("stopped.png").exists()
    assert fit(*LEVELS, "--ckpt_path", "last", "--output", "resumed.png") == 0
    np.testing.assert_array_equal(values("resumed.png"), values("straight.png"))


@pytest.mark.parametrize("command", ["batch", "sweep"])
def test_a_signal_ends_many_pictures_and_the_same_command_goes_on(
    command: str, number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    draw(Path("second.png"), seed=5)
    given = {
        "batch": ["--data.content", "photo.png", "second.png", "--output", "out"],
        "sweep": ["--data.content", "photo.png,second.png", "--output", "out.png"],
    }[command]
    arguments = [command, *TINY, "--data.style", "painting.png", "--data.steps", "2", *given]
    with monkeypatch.context() as patched:
        interrupt(patched, StyleTransfer, "training_step", 3, number)
        assert main(arguments) == 128 + number
    captured = capfd.readouterr()
    assert captured.err == f"nst: stopped by {number.name}\n"
    assert len(list(Path("out").iterdir())) == 1
    check_nothing_is_torn(Path("out"))
    assert main(arguments) == 0
    assert "1 made, 1 skipped, 0 failed" in capfd.readouterr().out


def test_handlers_are_put_back_and_what_was_ignored_stays_ignored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with Stop() as stop:
            assert signal.getsignal(signal.SIGTERM) != before
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.number is None
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
            assert stop.code == 143
        assert signal.getsignal(signal.SIGTERM) is before
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, ignored)


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def stopped(file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, stopped)
    assert path.read_text() == "before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.txt", "painting.png", "photo.png"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no terminals of this kind")
def test_a_terminal_that_is_closed_ends_a_run_that_can_go_on() -> None:
    """The lines that a closed terminal refuses must not end the run before its checkpoint is written."""
    import fcntl
    import termios

    outside, inside = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(inside, termios.TIOCSCTTY, 0)

    options = ["--trainer.enable_progress_bar", "true", "--data.content", "photo.png", "--data.style", "painting.png"]
    options += ["--data.steps", "1000", "--checkpoints.every_n_steps", "3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nst", "fit", *TINY, *options],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(inside)
    checkpoint = Path("lightning_logs/version_0/checkpoints/last.ckpt")
    os.set_blocking(outside, False)
    for _ in range(1200):
        with suppress(BlockingIOError):
            os.read(outside, 1 << 16)
        if checkpoint.exists():
            break
        assert process.poll() is None
        time.sleep(0.05)
    os.close(outside)
    assert process.wait(timeout=60) == 128 + signal.SIGHUP
    assert torch.load(checkpoint, weights_only=True)["global_step"] < 1000
    assert Path("lightning_logs/version_0/result.png").exists()
