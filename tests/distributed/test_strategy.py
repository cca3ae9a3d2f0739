"""Runs of several processes, as people start them: signals, killed processes, checkpoints, hosts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst.cli.main import main
from nst.pictures import images
from nst.run import checkpoints, record

HOSTS = Path(__file__).parent / "hosts.sh"

SETTINGS = ["--config", "{}", "--model.backbone", "compact", "--model.convolution", "direct", "--data.size", "96"]
SETTINGS += ["--data.content", "photo.png", "--data.style", "painting.png", "--trainer.precision", "32-true"]
SETTINGS += ["--trainer.accelerator", "cpu", "--checkpoints.every_n_steps", "10", "--trainer.log_every_n_steps", "1"]


def command(devices: int, steps: int, *options: str) -> list[str]:
    words = [*SETTINGS, "--data.steps", str(steps), "--trainer.devices", str(devices), *options]
    return [sys.executable, "-m", "nst", "fit", *words]


def made(path: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return images.load(path).rgb.numpy()


def wait_for(pattern: str, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not list(Path().glob(pattern)):
        assert time.monotonic() < until, f"no {pattern}"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(x) for x in found.read_text().split()] if found.exists() else []


@pytest.fixture
def started(pair: tuple[Path, Path]) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to end after a test."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        for pid in [*children(process.pid), process.pid]:
            if process.poll() is None:
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
def test_two_processes_make_the_picture_of_one(pair: tuple[Path, Path]) -> None:
    done = subprocess.run(command(2, 20, "--output", "two.png"), capture_output=True, text=True, check=True)
    assert main(command(1, 20, "--output", "one.png")[3:]) == 0
    # a rounding error may turn the sign of a gradient near 0, and Adam's step with it
    assert np.abs(made("two.png") - made("one.png")).mean() < 1e-3
    assert [path.name for path in Path("lightning_logs").iterdir()] == ["version_0", "version_1"]
    assert done.stdout.count("picture   two.png") == done.stdout.count("compact (bundled) on cpu") == 1
    settings = record.read("two.png")["config"]["trainer"]
    assert settings == record.read("one.png")["config"]["trainer"]  # by how many it is made is no setting of a picture


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_process_stops_all_at_one_step_and_another_number_goes_on(
    started: list[subprocess.Popen[str]], number: signal.Signals
) -> None:
    run = subprocess.Popen(command(3, 4000), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(run)
    wait_for("lightning_logs/version_0/checkpoints/last.ckpt")
    others = children(run.pid)
    os.kill(others[-1], number)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 128 + number and "error" not in err
    assert "resume" in out and not any(Path(f"/proc/{pid}").exists() for pid in others)
    steps = record.read("lightning_logs/version_0/result.png")["steps"]
    assert 10 <= steps < 4000
    for devices in (1, 2):
        more = command(devices, steps + 5, "--ckpt_path", "last", "--output", f"{devices}.png")
        subprocess.run(more, check=True, capture_output=True)
        assert record.read(f"{devices}.png")["steps"] == steps + 5
        shutil.rmtree("lightning_logs/version_1")  # the next one is to go on from the same checkpoint
    assert np.abs(made("1.png") - made("2.png")).mean() < 5e-3  # near 0 a rounding error turns the sign of a step


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "other"])
def test_where_one_process_is_killed_the_others_end(started: list[subprocess.Popen[str]], victim: str) -> None:
    count = 3 if victim == "first" else 2  # where two more runs follow, fewer, as each takes seconds to start
    run = subprocess.Popen(command(count, 4000), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started.append(run)
    wait_for("lightning_logs/version_0/checkpoints/last.ckpt")
    others = children(run.pid)
    os.kill(run.pid if victim == "first" else others[0], signal.SIGKILL)
    _, err = run.communicate(timeout=15)  # the others write to it too, and it ends with the last of them
    until = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in others) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in others)
    assert run.returncode == (-signal.SIGKILL if victim == "first" else 1)
    told = [line for line in err.splitlines() if line.startswith("nst: error: Expected all processes of the run")]
    assert 1 <= len(told) <= (2 if victim == "first" else 1) and "--ckpt_path last" in told[0]
    assert "Traceback" not in err
    if victim == "first":  # what was left is the same
        return
    steps = checkpoints.read(Path("lightning_logs/version_0/checkpoints/last.ckpt"))["global_step"] + 10
    for options in (["--ckpt_path", "last", "--output", "again.png"], ["--output", "straight.png"]):
        subprocess.run(command(count, steps, *options), check=True, capture_output=True)
    assert np.array_equal(made("again.png"), made("straight.png"))


@pytest.mark.slow
def test_all_end_by_the_clock_of_the_first(pair: tuple[Path, Path]) -> None:
    more = command(2, 100000, "--budget", "25s", "--output", "timed.png")
    subprocess.run(more, check=True, capture_output=True, timeout=80)
    assert 1 <= record.read("timed.png")["steps"] < 100000


@pytest.fixture
def hosts() -> Iterator[int]:
    """Network namespaces."""
    count = 4
    if os.name != "posix" or shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need Linux's `ip` and its administrator")
    subprocess.run([HOSTS, "down", str(count)], check=True)
    if subprocess.run([HOSTS, "up", str(count)], capture_output=True).returncode:
        subprocess.run([HOSTS, "down", str(count)], check=True)
        pytest.skip("network namespaces cannot be made here")
    yield count
    subprocess.run([HOSTS, "down", str(count)], check=True)


@pytest.mark.slow
def test_hosts_with_addresses_of_their_own(pair: tuple[Path, Path], hosts: int) -> None:
    options = ["--trainer.num_nodes", str(hosts), "--output", "hosts.png"]
    runs = []
    for i in range(hosts):
        run = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(hosts), "--node_rank", str(i)]
        run += ["--master_addr", "10.77.0.1", "--master_port", "29533", *command(1, 10, *options)[1:]]
        within = ["ip", "netns", "exec", f"nst{i + 1}", *run]
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"}
        runs.append(
            subprocess.Popen(within, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    for run_ in runs:
        _, err = run_.communicate(timeout=120)
        assert run_.returncode == 0, err
    assert main(command(1, 10, "--output", "one.png")[3:]) == 0
    assert np.abs(made("hosts.png") - made("one.png")).mean() < 1e-3
    with Image.open("hosts.png") as picture:
        assert max(picture.size) == 96


def test_wrong_input_is_told_once(pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(command(2, 5, "--data.size", "3")[3:]) == 2
    assert capfd.readouterr().err.count("nst: error") == 1
