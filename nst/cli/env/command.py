"""`nst env`: versions, devices and what a run would choose on them, to read and to paste into a report.

Nothing is downloaded, and no picture is made: all of it is asked of the libraries and of the system. The user's own
folder is written as `~`, so that a report names nobody.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from nst.cli.explain import Parser
from nst.cli.settings import DEFAULT
from nst.machine import memory, precision, system, threads
from nst.network import weights
from nst.run.stopping import Stop
from nst.streaming import plan

MAIN = ("nst", "torch", "torchvision", "lightning", "numpy", "pillow", "scikit-image")
"""Packages whose versions tell most of what a picture may depend on."""

EXTRAS = {"cluster": ("ray", "fsspec"), "studio": ("gradio",), "video": ("av", "opencv-python-headless")}
"""The packages of each extra; pyproject.toml has their lowest versions."""

VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "MKL_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "CUDA_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ENABLE_MPS_FALLBACK",
    "TORCH_HOME",
    "XDG_CACHE_HOME",
    "SLURM_JOB_ID",
    "RANK",
    "WORLD_SIZE",
)
"""Environment variables that change what a run does, or where its files are; none of them holds a secret."""


def show(args: Sequence[str], stop: Stop) -> int:
    """Prints versions, devices, threads and memory, and the network and precision that a run would choose."""
    Parser("nst env", description=show.__doc__).parse_args(list(args))
    for title, rows in report():
        print(title)
        width = max(map(len, rows), default=0)
        for name, value in rows.items():
            print(f"  {name:{width}}  {value}")
    return 0


def report() -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yields the parts of the report: a title, and its rows by name."""
    yield "versions", _versions()
    yield "extras", {extra: _state(packages) for extra, packages in EXTRAS.items()}
    yield "machine", _machine()
    yield "devices", _devices()
    yield "what a run takes", _chosen()
    yield "environment", {name: _short(os.environ[name]) for name in VARIABLES if name in os.environ}


def _versions() -> dict[str, str]:
    found = {name: _version(name) or "not installed" for name in MAIN}
    return {"nst": found.pop("nst"), "python": f"{platform.python_version()} on {platform.platform()}", **found}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _state(packages: Sequence[str]) -> str:
    """Says which packages of an extra are there, and which are missing."""
    there = {name: _version(name) for name in packages}
    missing = [name for name, number in there.items() if number is None]
    shown = ", ".join(f"{name} {number}" for name, number in there.items() if number)
    return ", ".join(x for x in (shown, f"not installed: {', '.join(missing)}" if missing else "") if x)


def _machine() -> dict[str, str]:
    cpu, logical = torch.device("cpu"), os.cpu_count() or 1
    sets = [torch.backends.cpu.get_cpu_capability(), *precision.extensions()]
    onednn = "with" if torch.backends.mkldnn.is_available() else "without"
    return {
        "processor": system.processor(),
        "instruction set": f"{', '.join(sets)}, {onednn} oneDNN",
        "cores": f"{threads.cores()} physical for this program, {logical} logical in the machine",
        "threads": f"{torch.get_num_threads()} within a step",
        "memory": f"{memory.readable(memory.free(cpu))} free of {memory.readable(memory.total(cpu))}",
    }


def _devices() -> dict[str, str]:
    found = {}
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        kind = torch.cuda.get_device_properties(i)
        size, generation = memory.readable(kind.total_memory), f"{kind.major}.{kind.minor}"
        found[f"cuda:{i}"] = f"{kind.name}, {size}, compute capability {generation}, CUDA {torch.version.cuda}"
    if torch.backends.mps.is_available():
        found["mps"] = f"Apple, {memory.readable(memory.total(torch.device('mps')))} to take"
    return {**found, "cpu": "always there"}


def _chosen() -> dict[str, str]:
    file = weights.file()
    bundled = file == weights.COMPACT
    network = "VGG19 if it can be downloaded, else the compact one in the box" if bundled else "VGG19, from the cache"
    return {
        "preset": DEFAULT,
        "device": precision.device_type("auto"),
        "precision": precision.fastest(),
        "convolution": f"auto, which is {plan.usable('auto')} for float32",
        "network": network,
        "cache": _short(str(Path(torch.hub.get_dir()) / "checkpoints")),
    }


def _short(text: str) -> str:
    """Returns a text with the user's own folder as `~`."""
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text
