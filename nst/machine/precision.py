"""The precision of the network: the names, what a processor multiplies in and how fast, and the fastest one."""

from __future__ import annotations

import os
from functools import cache
from typing import Literal

import torch

from nst.errors import InputError, nearest
from nst.machine import system

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]

NAMES: dict[str, Precision] = {
    "32-true": "32-true",
    "32": "32-true",
    "bf16-mixed": "bf16-mixed",
    "bf16": "bf16-mixed",
    "16-mixed": "16-mixed",
    "16": "16-mixed",
}
"""Precisions of the Lightning Trainer in which the network may run: the picture and all sums stay float32."""

NARROW = ("SSE", "AVX2")
"""Prefixes of the names of oneDNN's instruction sets without bfloat16."""


def check(precision: str | int | None) -> Precision:
    """Returns the full name of a precision of the Lightning Trainer; None means float32.

    Raises:
        InputError: If the precision does not exist, or would not keep the picture in float32.
    """
    name = "32-true" if precision is None else str(precision)
    if isinstance(precision, bool) or name not in NAMES:
        raise InputError(
            f"Expected --trainer.precision to be one of {', '.join(list(NAMES)[::2])}, as the picture and all sums are "
            f"float32, but got {precision}{nearest(name, NAMES)}"
        )
    return NAMES[name]


def usable(precision: str | int | None, accelerator: str = "auto") -> Precision:
    """Returns a precision, or float32 where the hardware does not multiply in that precision, or only slowly.

    Args:
        precision: Precision of the Trainer.
        accelerator: Accelerator of the Trainer.

    Raises:
        InputError: As for `check`.
    """
    wanted = check(precision)
    if wanted == "32-true":
        return wanted
    kind = device_type(accelerator)
    if kind == "cuda":
        return wanted if wanted == "16-mixed" or torch.cuda.get_device_capability() >= (8, 0) else "32-true"
    # on a CPU float16 is no choice: Lightning runs bfloat16 in the place of float16
    return "bf16-mixed" if kind == "cpu" and convolves_in_bfloat16() else "32-true"


def fastest(accelerator: str = "auto") -> Precision:
    """Returns the Lightning Trainer's fastest precision: bfloat16 where the hardware gains by it, else float32.

    The precision applies to the network's activations alone: the picture and all sums are always float32. A processor
    gains by bfloat16 with matrix units (AMX), or with AVX512-BF16 where float32 does not have two wide units (see
    `two_wide_units`): only one of these takes bfloat16.

    Args:
        accelerator: Accelerator of the Trainer: `cpu`, `gpu`, `cuda` or `auto`; any other gets float32.
    """
    kind = device_type(accelerator)
    if kind == "cuda":
        return "bf16-mixed" if torch.cuda.get_device_capability() >= (8, 0) else "32-true"
    if kind == "cpu" and convolves_in_bfloat16():
        found = extensions()
        return "bf16-mixed" if "AMX" in found or (found and not two_wide_units()) else "32-true"
    return "32-true"


def device_type(accelerator: str) -> str:
    """Returns the device type that an accelerator of the Trainer stands for on this machine."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu" if accelerator == "auto" else accelerator


@cache
def convolves_in_bfloat16() -> bool:
    """Whether oneDNN convolves in bfloat16 on this processor: torch's own kernels take seven times float32's time."""
    if held_to_narrow() or not torch.backends.mkldnn.is_available():
        return False
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # the function is private, and not in every version of torch
        return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def held_to_narrow() -> bool:
    """Whether the user holds oneDNN to instructions without AVX512."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL"
    return limit.upper().startswith(NARROW) or limit.upper() == "AVX"


@cache
def two_wide_units() -> bool:
    """Whether oneDNN multiplies float32 in two units of 512 bits for each core, as on Intel's Xeons with AVX512.

    No system tells, so the processor's name does. All others count as having one unit, or two of 256 bits, which are as
    fast as with AVX2.
    """
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return wide and not held_to_narrow() and "Xeon" in system.processor()


def extensions() -> list[str]:
    """Returns the processor's instructions for narrow numbers, as far as torch tells."""
    known = {"_is_avx512_bf16_supported": "AVX512-BF16", "_is_amx_tile_supported": "AMX"}  # private, not in every torch
    return [name for function, name in known.items() if getattr(torch.cpu, function, bool)()]
