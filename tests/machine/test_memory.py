"""How much memory there is, as systems, containers and devices tell it, and what is planned from it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nst.machine import memory, system
from nst.streaming.scanner import scanner_for, working_type
from tests.helpers import made

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")
MIB = 1 << 20


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 4096 MiB, 3000 of them free, with folders that tests fill."""
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 4096 * MIB // 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    monkeypatch.setattr(system, "PROC", tmp_path / "proc")
    monkeypatch.setattr(system, "GROUPS", tmp_path / "groups")
    write(tmp_path / "proc" / "meminfo", f"MemTotal: {4096 << 10} kB\nMemAvailable:   {3000 << 10} kB\n")
    return tmp_path


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="ascii")


def group(folder: Path, limit: int | str, used: int, cached: int = 0, high: int | str = "max") -> None:
    """A group of the second version, in MiB."""
    write(folder / "memory.max", limit if isinstance(limit, str) else limit * MIB)
    write(folder / "memory.high", high if isinstance(high, str) else high * MIB)
    write(folder / "memory.current", used * MIB)
    write(folder / "memory.stat", f"anon {(used - cached) * MIB}\nactive_file 7\ninactive_file {cached * MIB}")


def old_group(folder: Path, limit: int, used: int, cached: int = 0) -> None:
    """A group of the first version."""
    write(folder / "memory.limit_in_bytes", limit)
    write(folder / "memory.usage_in_bytes", used * MIB)
    write(folder / "memory.stat", f"inactive_file 1\ntotal_inactive_file {cached * MIB}")


def test_without_groups_it_is_what_the_machine_has(machine: Path) -> None:
    assert memory.total(CPU) == 4096 * MIB
    assert memory.free(CPU) == 3000 * MIB


def test_without_files_it_is_all_of_the_machine(machine: Path) -> None:
    (machine / "proc" / "meminfo").unlink()
    assert memory.free(CPU) == 4096 * MIB


def test_a_container_sees_its_own_group_as_the_root(machine: Path) -> None:
    write(machine / "proc" / "self" / "cgroup", "0::/")
    group(machine / "groups", 1000, 300)
    assert memory.free(CPU) == 700 * MIB


def test_pages_of_files_that_nobody_uses_are_free(machine: Path) -> None:
    write(machine / "proc" / "self" / "cgroup", "0::/")
    group(machine / "groups", 1000, 950, cached=800)
    assert memory.free(CPU) == 850 * MIB


def test_the_smallest_room_of_all_groups_around_counts(machine: Path) -> None:
    write(machine / "proc" / "self" / "cgroup", "0::/user/service/job")
    group(machine / "groups" / "user" / "service" / "job", "max", 100)
    group(machine / "groups" / "user" / "service", 600, 200)
    group(machine / "groups" / "user", 2000, 1900, cached=100)
    assert memory.free(CPU) == 200 * MIB
    group(machine / "groups" / "user" / "service" / "job", "max", 100, high=250)  # where the kernel begins to slow it
    assert memory.free(CPU) == 150 * MIB


def test_a_path_of_the_host_that_is_not_there_leaves_the_root(machine: Path) -> None:
    write(machine / "proc" / "self" / "cgroup", "0::/docker/abc")
    group(machine / "groups", 500, 100)
    assert memory.free(CPU) == 400 * MIB


def test_groups_of_the_first_version(machine: Path) -> None:
    write(machine / "proc" / "self" / "cgroup", "5:cpu,cpuacct:/other\n4:memory:/docker/abc\n1:name=systemd:/")
    old_group(machine / "groups" / "memory", 9223372036854771712, 2000)  # no limit
    assert memory.free(CPU) == 3000 * MIB
    old_group(machine / "groups" / "memory" / "docker" / "abc", 900 * MIB, 500, cached=300)
    assert memory.free(CPU) == 700 * MIB


def test_a_group_beyond_its_limit_leaves_nothing(machine: Path) -> None:
    write(machine / "proc" / "self" / "cgroup", "0::/")
    group(machine / "groups", 100, 120)
    assert memory.free(CPU) == 0


def test_a_system_that_does_not_tell(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sysconf")
    assert memory.total(CPU) == memory.free(CPU) == memory.UNKNOWN


def test_windows(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(pointer: Any) -> int:
        status = pointer._obj
        assert status.length == ctypes.sizeof(status) == 64  # of MEMORYSTATUSEX
        status.whole, status.free = 2000 * MIB, 1200 * MIB
        return 1

    monkeypatch.delattr(os, "sysconf")
    library = SimpleNamespace(kernel32=SimpleNamespace(GlobalMemoryStatusEx=fill))
    monkeypatch.setattr(ctypes, "windll", library, raising=False)
    assert (memory.total(CPU), memory.free(CPU)) == (2000 * MIB, 1200 * MIB)


def test_a_gpu_tells_its_own(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (700 * MIB, 1000 * MIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 90 * MIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 50 * MIB)
    assert memory.free(CUDA) == 740 * MIB  # with what torch keeps for the next tensors


def test_an_apple_gpu_shares_the_machines(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 2500 * MIB, raising=False)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 400 * MIB, raising=False)
    assert (memory.total(MPS), memory.free(MPS)) == (2500 * MIB, 2100 * MIB)
    write(machine / "proc" / "meminfo", f"MemAvailable: {1000 << 10} kB")
    assert memory.free(MPS) == 1000 * MIB
    monkeypatch.delattr(torch.mps, "recommended_max_memory")
    monkeypatch.delattr(torch.mps, "driver_allocated_memory")
    assert (memory.total(MPS), memory.free(MPS)) == (4096 * MIB, 1000 * MIB)


def test_bands_are_planned_for_the_device_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures are still on the CPU, which has plenty; the device has little."""
    network, objective, picture = made(torch.float32, size=(600, 500))
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    there = {"cpu": 1 << 40, "cuda": 180 * MIB}
    monkeypatch.setattr(memory, "free", lambda device: there[device.type])
    here = scanner_for(network, objective, optimizer, picture, 3)
    beyond = scanner_for(network, objective, optimizer, picture, 3, device=CUDA)
    assert not here.plan(picture).streams
    assert beyond.plan(picture).streams
    assert beyond.plan(picture).needed <= beyond.available < there["cuda"]
    there["cuda"] = there["cpu"]
    brought = sum(x.nbytes for x in network.buffers())  # the network is not there yet
    assert scanner_for(network, objective, optimizer, picture, 3, device=CUDA).available == here.available - brought


def test_a_bound_counts_what_is_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    network, objective, picture = made(torch.float32, size=(64, 60))
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    monkeypatch.setattr(memory, "held", lambda device: {"cuda": 5 * MIB}[device.type])
    room = scanner_for(network, objective, optimizer, picture, 3, budget=1 << 30, device=CUDA).available
    monkeypatch.setattr(memory, "held", lambda device: {"cuda": 9 * MIB}[device.type])
    assert (
        scanner_for(network, objective, optimizer, picture, 3, budget=1 << 30, device=CUDA).available == room - 4 * MIB
    )


def test_activations_have_the_type_that_they_have_on_the_device() -> None:
    picture = torch.zeros(1, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert working_type(picture) == torch.bfloat16
        assert working_type(picture, CUDA) == torch.float32
    assert working_type(picture, torch.device("meta")) == torch.float32  # which has no autocast
