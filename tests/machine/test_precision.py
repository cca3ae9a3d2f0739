"""Which precision the network runs in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from nst.errors import InputError
from nst.machine import precision, system


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    for asked in (precision.convolves_in_bfloat16, precision.two_wide_units):
        asked.cache_clear()
    yield
    for asked in (precision.convolves_in_bfloat16, precision.two_wide_units):
        asked.cache_clear()


def processor(monkeypatch: pytest.MonkeyPatch, supported: bool) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported, raising=False)


@pytest.mark.parametrize(
    ("short", "full"), [(32, "32-true"), ("bf16", "bf16-mixed"), (16, "16-mixed"), (None, "32-true")]
)
def test_names(short: str | int | None, full: str) -> None:
    assert precision.check(short) == precision.check(full) == full


@pytest.mark.parametrize("name", ["16-true", "bf16-true", "64-true", 64, "transformer-engine", "", "bf", True])
def test_other_precisions_are_refused(name: str | int) -> None:
    words = rf"--trainer.precision to be one of 32-true, bf16-mixed, 16-mixed, as .* float32, but got {name}"
    with pytest.raises(InputError, match=words):
        precision.usable(name, "cpu")


def test_a_slip_is_told() -> None:
    with pytest.raises(InputError, match=r"but got bf16-mixd \(did you mean bf16-mixed\?\)"):
        precision.check("bf16-mixd")


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_a_processor_with_bfloat16(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, True)
    assert precision.usable("bf16", accelerator) == "bf16-mixed"
    assert precision.usable(16, accelerator) == "bf16-mixed"  # which is what Lightning takes there
    assert precision.usable(32, accelerator) == "32-true"


@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_a_processor_without(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, False)
    for name in ("bf16-mixed", "16-mixed", "32-true"):
        assert precision.usable(name, accelerator) == "32-true"
    assert precision.fastest(accelerator) == "32-true"


@pytest.mark.parametrize("limit", ["AVX2", "avx2_vnni", "SSE41", "AVX"])
def test_instructions_that_a_user_forbids(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert precision.usable("bf16-mixed", "cpu") == precision.fastest("cpu") == "32-true"
    precision.convolves_in_bfloat16.cache_clear()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX")
    assert precision.usable("bf16-mixed", "cpu") == precision.fastest("cpu") == "bf16-mixed"


XEON, EPYC = "Intel(R) Xeon(R) Platinum 8592+", "AMD EPYC 9654 96-Core Processor"


@pytest.mark.parametrize(
    ("name", "sets", "limit", "wide", "expected"),
    [
        (XEON, {"_is_avx512_bf16_supported", "_is_amx_tile_supported"}, "", True, "bf16-mixed"),
        (XEON, {"_is_avx512_bf16_supported"}, "", True, "32-true"),  # float32 has twice the units of bfloat16
        (XEON, {"_is_avx512_bf16_supported"}, "AVX2", False, "32-true"),
        (XEON, set(), "", True, "32-true"),
        (EPYC, {"_is_avx512_bf16_supported"}, "", False, "bf16-mixed"),
        (EPYC, set(), "", False, "32-true"),
    ],
)
def test_what_a_processor_gains_by_bfloat16(
    name: str, sets: set[str], limit: str, wide: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor(monkeypatch, True)
    monkeypatch.setattr(system, "processor", lambda: name)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for function in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, function, lambda function=function: function in sets, raising=False)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert precision.two_wide_units() == wide
    assert precision.fastest("cpu") == expected


def test_a_version_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> bool:
        raise AttributeError

    processor(monkeypatch, True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", missing)
    for name, expected in (("AVX2", "32-true"), ("AVX512", "bf16-mixed")):
        precision.convolves_in_bfloat16.cache_clear()
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=name: name)
        assert precision.usable("bf16-mixed", "cpu") == expected


def test_the_processor_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask() -> bool:
        asked.append(1)
        return True

    processor(monkeypatch, True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", ask)
    assert [precision.usable("bf16", "cpu") for _ in range(3)] == ["bf16-mixed"] * 3
    assert len(asked) == 1


@pytest.mark.parametrize(("capability", "bf16"), [((7, 5), "32-true"), ((8, 0), "bf16-mixed")])
def test_gpus(capability: tuple[int, int], bf16: str, monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert precision.usable("bf16-mixed", "gpu") == precision.fastest("auto") == bf16
    assert precision.usable("16-mixed", "auto") == "16-mixed"
    assert precision.usable("bf16-mixed", "cpu") == "32-true"  # the processor's own


def test_an_apple_gpu_has_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert {precision.usable(name, "auto") for name in ("bf16", "16")} == {precision.fastest("mps")} == {"32-true"}
