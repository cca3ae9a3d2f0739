"""Threads: how many cores a process may use, and what is set before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nst import __main__ as entry
from nst.cli import main as commands
from nst.machine import system, threads


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of four cores with two threads each, all of them ours, and no control group."""
    for name in ("PROC", "GROUPS", "CPUS"):
        monkeypatch.setattr(system, name, tmp_path / name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for n in range(8):
        write(tmp_path / "CPUS" / f"cpu{n}" / "topology" / "thread_siblings_list", f"{n % 4},{n % 4 + 4}")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def test_threads_of_a_core_count_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.cores() == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4, 5})
    assert threads.cores() == 2


def test_a_system_that_says_nothing_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROC", "GROUPS", "CPUS"):
        monkeypatch.setattr(system, name, tmp_path / name)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.cores() == 1


@pytest.mark.parametrize(
    ("limit", "wanted"), [("max 100000", 4), ("150000 100000", 2), ("20000 100000", 1), ("900000 100000", 4), ("", 4)]
)
def test_a_quota_of_the_second_version(machine: Path, limit: str, wanted: int) -> None:
    write(machine / "PROC" / "self" / "cgroup", "0::/docker/abc")
    write(machine / "GROUPS" / "docker" / "cpu.max", limit)
    assert threads.cores() == wanted


@pytest.mark.parametrize(("quota", "wanted"), [("-1", 4), ("250000", 3)])
def test_a_quota_of_the_first_version(machine: Path, quota: str, wanted: int) -> None:
    write(machine / "PROC" / "self" / "cgroup", "2:cpuacct,cpu:/abc\n3:memory:/other")
    write(machine / "GROUPS" / "cpu" / "abc" / "cpu.cfs_quota_us", quota)
    write(machine / "GROUPS" / "cpu" / "abc" / "cpu.cfs_period_us", "100000")
    assert threads.cores() == wanted


def test_nothing_is_set_that_the_user_has_set(machine: Path) -> None:
    environment: dict[str, str] = {}
    threads.prepare(environment)
    assert environment == {"GOMP_SPINCOUNT": "1000", "OMP_NUM_THREADS": "4"}
    for own in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "5"}):
        environment = own | {"OMP_NUM_THREADS": "7"}
        threads.prepare(environment)
        assert environment == own | {"OMP_NUM_THREADS": "7"}


def test_the_command_prepares_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "9")  # so that it is as before afterwards
        monkeypatch.delenv(name)

    def run() -> int:
        seen.append(os.environ.get("GOMP_SPINCOUNT"))
        return 7

    monkeypatch.setattr(commands, "main", run)
    assert entry.main() == 7
    assert seen == [str(threads.SPIN)]


def test_torch_is_loaded_when_it_is_needed() -> None:
    """OpenMP's settings come before torch, so neither the command nor the package loads it at once."""
    code = "import sys, nst, nst.__main__; print('torch' in sys.modules, nst.InputError.__name__, dir(nst)[:2])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False InputError ['InputError', 'LaplacianAdam']\n"
