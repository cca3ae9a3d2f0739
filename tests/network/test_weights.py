"""Where the numbers come from, and what is refused."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import pickle
import random
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from nst.errors import InputError
from nst.network import weights
from nst.network.architecture import BLOCKS
from tests.helpers import Bomb, narrow


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["features.", ""])
@pytest.mark.parametrize("whole", [True, False])
def test_files_of_every_kind_are_read(tmp_path: Path, suffix: str, prefix: str, whole: bool) -> None:
    state = {key.replace("features.", prefix): value for key, value in narrow().items() if whole or "features" in key}
    path = tmp_path / f"net{suffix}"
    safetensors.torch.save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    for backbone in ("vgg16", "auto"):
        loaded = weights.load(backbone, str(path))
        assert loaded.blocks == BLOCKS["vgg16"]
        assert torch.equal(loaded.convolutions[12][0], narrow()["features.28.weight"])
        assert torch.equal(loaded.convolutions[12][1], narrow()["features.28.bias"])


def test_half_precision_files_become_float32(tmp_path: Path) -> None:
    safetensors.torch.save_file({key: value.half() for key, value in narrow().items()}, tmp_path / "n.safetensors")
    loaded = weights.load("vgg16", str(tmp_path / "n.safetensors"))
    assert all(part.dtype == torch.float32 for pair in loaded.convolutions for part in pair)


def test_a_file_tells_its_family() -> None:
    assert weights.from_state_dict(narrow(BLOCKS["vgg19"]), "a").blocks == BLOCKS["vgg19"]


def test_indices_are_torchvisions() -> None:
    assert weights.indices(BLOCKS["vgg16"]) == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert weights.indices(BLOCKS["vgg19"]) == [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]


def test_another_networks_file_is_refused_by_its_missing_keys(tmp_path: Path) -> None:
    torch.save(narrow(), tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"weights of vgg19, but .*net.pth has no features.16.weight, .* and \d+ more"):
        weights.load("vgg19", str(tmp_path / "net.pth"))
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"has no features.0.weight"):
        weights.load("auto", str(tmp_path / "other.pth"))


def test_shapes_that_do_not_fit_are_refused() -> None:
    state = {**narrow(), "features.2.weight": torch.zeros(4, 5, 3, 3)}
    with pytest.raises(InputError, match=r"features.2.weight to be \(out, 4, 3, 3\), but it has \(4, 5, 3, 3\)"):
        weights.from_state_dict(state, "it", "vgg16")


@pytest.mark.parametrize("key", ["features.2.weight", "features.2.bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(key: str, value: float) -> None:
    state = narrow()
    state[key][1] = value
    with pytest.raises(InputError, match=r"features.2 to hold finite numbers, but it has others.* --model.weights"):
        weights.from_state_dict(state, "it", "vgg16")


def test_no_code_in_a_file_ever_runs(tmp_path: Path) -> None:
    torch.save({"features.0.weight": Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.pth", "raw.pth"):
        with pytest.raises(InputError, match=r"Expected .*(tensors alone|state dict)"):
            weights.load("vgg16", str(tmp_path / name))
    assert not Path("exploded").exists()


@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"PK\x03\x04 broken"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_broken_files_are_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"net{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=r"Expected .*net.* (state dict|tensors alone)"):
        weights.load("vgg16", str(tmp_path / f"net{suffix}"))


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    state = narrow(width=1)
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pth")
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    good, rng, words = path.read_bytes(), random.Random(0), list[str]()
    for _ in range(60):
        damaged = bytearray(good)
        for _ in range(rng.choice((1, 3, 20))):
            damaged[rng.randrange(min(len(good), 4000))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.randrange(len(good))] if rng.random() < 0.2 else damaged)
        try:
            weights.load("auto", str(path))
        except InputError as error:
            words.append(str(error))
    assert len(words) > 30
    assert all(x.startswith("Expected ") and "--model.weights" in x and "\n" not in x for x in words)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net", "net.PTH"])
@pytest.mark.parametrize("text", ["weights: 3\n", "(lp0\n.", "cos\nsystem\n", "ustar", "{}"])
def test_texts_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"Expected .*net.* (state dict|tensors alone)"):
        weights.load("auto", str(tmp_path / name))


def test_names_of_files_count_whatever_their_case(tmp_path: Path) -> None:
    safetensors.torch.save_file(narrow(), tmp_path / "net.SafeTensors")
    assert weights.load("auto", str(tmp_path / "net.SafeTensors")).blocks == BLOCKS["vgg16"]
    (tmp_path / "net.SafeTensors").rename(tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"net.pth to be a state dict .*it is not what torch writes"):
        weights.load("auto", str(tmp_path / "net.pth"))


def test_a_header_that_claims_petabytes_is_refused(tmp_path: Path) -> None:
    claim = {"features.0.weight": {"dtype": "F32", "shape": [1 << 40, 3, 3, 3], "data_offsets": [0, 108 << 40]}}
    header = json.dumps(claim).encode()
    (tmp_path / "net.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match=r"state dict, but it cannot be read"):
        weights.load("auto", str(tmp_path / "net.safetensors"))
    (tmp_path / "net.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + header)
    with pytest.raises(InputError, match=r"state dict, but it cannot be read"):
        weights.load("auto", str(tmp_path / "net.safetensors"))


def test_a_file_that_unfolds_is_refused(tmp_path: Path) -> None:
    torch.save(narrow(width=64), tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth") as source:
        entries = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries.items():
            target.writestr(name, bytes(len(content)) if "/data/" in name else content)
    with pytest.raises(InputError, match=r"bomb.pth .*claims to hold \d+ bytes in \d+; change --ckpt_path"):
        weights.read_torch(tmp_path / "bomb.pth", "ckpt_path")


def test_a_storage_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(1 << 10)}, tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth") as source:
        entries = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(tmp_path / "lie.pth", "w") as target:
        for name, content in entries.items():  # 1024 values, and a storage of 100
            target.writestr(name, content[:400] if "/data/" in name else content)
    with pytest.raises(InputError, match=r"Expected .*lie.pth .*--model.weights"):
        weights.load("auto", str(tmp_path / "lie.pth"))


STRANGE: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "int": (lambda x: x.int(), r"features.2.weight to be a plain tensor of floating-point .* has int32;"),
    "complex": (lambda x: x.to(torch.complex64), r"has complex64;"),
    "bool": (lambda x: x > 0, r"has bool;"),
    "sparse": (lambda x: x.to_sparse(), r"has float32 of sparse coo layout;"),
    "quantised": (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), r"has qint8;"),
    "meta": (lambda x: x.to("meta"), r"has float32 of no values;"),
    "expanded": (lambda x: x[:1].expand(1 << 36, 4, 3, 3), r"has float32 of overlapping values;"),
    "strided": (
        lambda x: torch.zeros(1).as_strided((1 << 40, 4, 3, 3), (0,) * 4),
        r"has float32 of overlapping values",
    ),
    "no channels": (lambda x: x[:0], r"features.2.weight to be \(out, 4, 3, 3\), but it has \(0, 4, 3, 3\)"),
    "five axes": (lambda x: x[None], r"to be \(out, 4, 3, 3\), but it has \(1, 4, 4, 3, 3\)"),
    "a number": (lambda x: x.sum(), r"to be \(out, 4, 3, 3\), but it has \(\)"),
    "a large kernel": (lambda x: torch.zeros(4, 4, 5, 5), r"but it has \(4, 4, 5, 5\)"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_tensors_are_refused_by_the_layers_name(kind: str) -> None:
    change, words = STRANGE[kind]
    state = narrow()
    state["features.2.weight"] = change(state["features.2.weight"])
    with pytest.raises(InputError, match=words):
        weights.from_state_dict(state, "it", "vgg16")


def test_a_bias_of_another_shape_is_refused_as_that() -> None:
    state = {**narrow(), "features.2.bias": torch.zeros(5)}
    with pytest.raises(InputError, match=r"features.2.bias to be \(4,\), but it has \(5,\)"):
        weights.from_state_dict(state, "it", "vgg16")


def test_keys_that_are_no_texts_are_ignored(tmp_path: Path) -> None:
    state: dict[object, Tensor] = {3: torch.zeros(1)}
    state.update(narrow())
    torch.save(state, tmp_path / "net.pth")
    assert weights.load("auto", str(tmp_path / "net.pth")).blocks == BLOCKS["vgg16"]


@pytest.mark.parametrize("path", ["fifo.pth", "/dev/zero"])
def test_what_is_no_regular_file_is_refused_at_once(path: str) -> None:
    os.mkfifo("fifo.pth")
    with pytest.raises(InputError, match=r"imagenet, random:SEED or a file, but .* is no regular file"):
        weights.load("vgg16", path)
    with pytest.raises(InputError, match=r"--ckpt_path to be a file, but .* is none"):
        weights.read_torch(Path(path), "ckpt_path")


def test_what_torch_saved_is_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3), "b": [1, {"c": "d"}]}, tmp_path / "any.ckpt")
    found = weights.read_torch(tmp_path / "any.ckpt", "ckpt_path")
    assert found["b"] == [1, {"c": "d"}] and torch.equal(found["a"], torch.arange(3))
    torch.save({"a": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(InputError, match=r"tensors alone, .* never run; change --ckpt_path"):
        weights.read_torch(tmp_path / "bomb.ckpt", "ckpt_path")


@pytest.mark.parametrize("seed", ["9" * 20, "-" + "9" * 20, "9" * 5000, "", "1.5", "nan"])
def test_seeds_that_are_none(seed: str) -> None:
    with pytest.raises(InputError, match=r"model.weights to be (random:SEED|below 2\^64)") as caught:
        weights.load("vgg16", f"random:{seed}")
    assert len(str(caught.value)) < 200


def test_an_unknown_network_is_refused() -> None:
    words = r"--model.backbone to be one of auto, vgg19, vgg16 or compact, but got vgg18 \(did you mean vgg1[69]\?\)"
    with pytest.raises(InputError, match=words):
        weights.load("vgg18", "random:0")  # type: ignore[arg-type]  # which is the point


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"imagenet, random:SEED or a file, but .*nothing.pth does not exist"):
        weights.load("vgg16", str(tmp_path / "nothing.pth"))
    with pytest.raises(InputError, match="is a folder"):
        weights.load("vgg16", str(tmp_path))


def test_random_weights_keep_the_activations_size() -> None:
    loaded = weights.load("vgg19", "random:0")
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for weight, bias in loaded.convolutions[:8]:
        x = torch.relu(torch.nn.functional.conv2d(x, weight, bias, padding=1))
    assert 0.25 < x.square().mean() < 4  # it began at 1; zeros at the border take some
    again = weights.load("vgg19", "random:0")
    assert torch.equal(again.convolutions[3][0], loaded.convolutions[3][0])
    assert not torch.equal(weights.load("vgg19", "random:1").convolutions[3][0], loaded.convolutions[3][0])
    with pytest.raises(InputError, match="random:SEED with a whole number, but got random:x"):
        weights.load("vgg19", "random:x")


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; `broken` promises more bytes than it sends."""

    broken = False


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not getattr(self.server, "broken", False):
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"x" * 1000)
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)


class Enum:
    """Stands for torchvision's enum: the same method, another address."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return torch.hub.load_state_dict_from_url(self.url, *args, **kwargs)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    torch.save(narrow(BLOCKS["vgg19"]), folder / "net.pth")
    digest = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()[:8]
    (folder / "net.pth").rename(folder / f"vgg19-{digest}.pth")
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{running.server_port}/vgg19-{digest}.pth"
        monkeypatch.setitem(weights._ENUMS, "vgg19", Enum(address))
        yield running
        running.shutdown()


def cache() -> list[str]:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_weights_are_downloaded_into_torch_home_once(server: Server, tmp_path: Path) -> None:
    loaded = weights.load("auto")
    assert loaded.name == "vgg19 (ImageNet)"
    assert torch.equal(loaded.convolutions[0][0], narrow()["features.0.weight"])
    (name,) = cache()
    assert (tmp_path / "torch" / "hub" / "checkpoints" / name).is_file()
    server.shutdown()
    server.server_close()
    assert weights.load("vgg19").blocks == BLOCKS["vgg19"]  # from the cache


def test_a_download_with_another_hash_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Path(server.RequestHandlerClass.keywords["directory"])  # type: ignore[attr-defined]  # of a partial
    (file,) = served.iterdir()
    file.rename(served / "vgg19-00000000.pth")
    monkeypatch.setitem(weights._ENUMS, "vgg19", Enum(f"http://127.0.0.1:{server.server_port}/vgg19-00000000.pth"))
    with pytest.raises(InputError, match="invalid hash value"):
        weights.load("vgg19")
    assert cache() == []


def test_half_a_download_is_not_left_behind(server: Server) -> None:
    server.broken = True
    with pytest.raises(InputError, match=r"vgg19's weights cannot be had from 127\.0\.0\.1"):
        weights.load("vgg19")
    assert cache() == []


def refused() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/vgg19-00000000.pth"


def test_without_a_network_the_message_names_the_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights._ENUMS, "vgg19", Enum(refused()))
    with pytest.raises(InputError, match=r"a file as --model.weights, .*TORCH_HOME.*--model.backbone compact"):
        weights.load("vgg19")


def test_a_host_that_does_not_answer_is_found_out_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as mute:  # takes connections and says nothing
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        monkeypatch.setitem(weights._ENUMS, "vgg19", Enum(f"http://127.0.0.1:{mute.getsockname()[1]}/vgg19-0.pth"))
        monkeypatch.setattr(weights, "PATIENCE", 0.5)
        start = time.monotonic()
        with pytest.raises(InputError, match="vgg19's weights cannot be had"):
            weights.load("vgg19")
        assert time.monotonic() - start < 5


def test_patience_is_below_ten_seconds() -> None:
    assert weights.PATIENCE < 10


def test_auto_without_a_network_is_the_compact_one_if_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(weights._ENUMS, "vgg19", Enum(refused()))
    monkeypatch.setattr(weights, "COMPACT", tmp_path / "compact.safetensors")
    with pytest.raises(InputError, match="vgg19's weights cannot be had"):
        weights.load("auto")
    with pytest.raises(InputError, match="compact network is not part of this installation"):
        weights.load("compact")
    safetensors.torch.save_file(narrow(), tmp_path / "compact.safetensors")
    with caplog.at_level("INFO", "nst"):
        assert weights.load("auto").name == weights.load("compact").name == "compact (bundled)"
    assert len(caplog.records) == 1
    assert "--model.backbone" in caplog.text


def test_the_real_file_is_read(data: Path) -> None:
    loaded = weights.load("auto", str(data / "weights" / "vgg16.safetensors"))
    assert [weight.shape[0] for weight, _ in loaded.convolutions][-1] == 512
