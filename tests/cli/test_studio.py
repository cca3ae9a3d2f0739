"""`nst studio` as a command: its flags, its address, its errors, and the API without the page."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nst.cli.main import main
from tests.studio.conftest import Studio

WRONG = [
    (["--studio.port", "70000"], "--studio.port to be in [1, 65535], but got 70000"),
    (["--studio.queue", "0"], "--studio.queue to be above 0, but got 0"),
    (["--studio.auth", "name"], "--studio.auth to be NAME:PASSWORD"),
    (["--studio.host", "0.0.0.0"], "a password where others get in, but got --studio.host 0.0.0.0"),
    (["--studio.max_size", "many"], "--studio.max_size"),
    (["--studio.pot", "1"], "--studio.pot"),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_wrong_flags_are_one_line(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["studio", *options]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1


def test_without_gradio_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in [name for name in sys.modules if name.startswith("nst.studio.web.")]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["studio"]) == 2
    assert "gradio is not installed; give python3 -m pip install 'nst[studio]'" in capsys.readouterr().err


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'nst[studio]'")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["studio", "--studio.port", port, "--studio.folder", str(tmp_path / "x")]) == 2
    assert f"--studio.port to be free on --studio.host, but 127.0.0.1 has no port {port}" in capsys.readouterr().err


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["studio", "--help"])
    text = (Path(__file__).parents[2] / "docs" / "studio.md").read_text()
    said = capsys.readouterr().out
    for flag in ("port", "host", "auth", "folder", "max_age", "max_disk", "max_size", "max_time", "max_upload"):
        assert f"--studio.{flag}" in said and f"--studio.{flag}" in text


@pytest.mark.slow
def test_the_api_with_a_password_and_without_a_page(tmp_path: Path) -> None:
    client = pytest.importorskip("gradio_client", reason="the studio needs gradio: pip install 'nst[studio]'")
    studio = Studio(tmp_path / "files", "--api-only", "--studio.auth", "anna:sesam", "--studio.max_size", "128")
    try:
        known = {"Authorization": "Basic " + base64.b64encode(b"anna:sesam").decode()}
        assert studio.get("/")[0] == 401
        assert json.loads(studio.get("/health")[1])["status"] == "ok"
        page = studio.get("/", known)[1]
        assert b'"Paint"' not in page and b'<script src="http' not in page and b"googleapis" not in page
        for path in ("/gradio_api/file=/etc/passwd", "/gradio_api/file=" + str(tmp_path), "/studio/runs/../x"):
            assert studio.get(path, known)[0] in (403, 404)
        asked = known | {"Content-Type": "application/json"}
        stranger = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
        code, body = studio.get(
            "/gradio_api/call/submit", asked, json.dumps({"data": ["debug", {}, stranger, None, True]}).encode()
        )
        event = json.loads(body)["event_id"] if code == 200 else ""
        assert code != 200 or b"event: error" in studio.get(f"/gradio_api/call/submit/{event}", known)[1]
        api = client.Client(studio.address, headers=known, verbose=False)
        run = api.predict("debug", {"data.steps": 4}, api_name="/submit")
        states = [x["state"] for x in api.submit(run, api_name="/watch")]
        assert states[-1] == "done"
        fetched = Path(api.predict(run, "png", api_name="/fetch"))
        assert fetched.read_bytes() == studio.get(f"/studio/runs/{run}/picture.png", known)[1]
        with pytest.raises(Exception, match="at most 128 pixels"):
            api.predict("debug", {"data.size": 256}, api_name="/submit")
    finally:
        studio.close()


STUBS = """
import ast, inspect
from pathlib import Path
parsed, written, parse, write = [], [], ast.parse, Path.write_text
ast.parse = lambda source, *a, **k: parsed.append(str(source)) or parse(source, *a, **k)
Path.write_text = lambda self, *a, **k: written.append(self) or write(self, *a, **k)
plain = inspect.getfile
from nst.cli.studio.loading import without_stubs
with without_stubs():
    import gradio
assert inspect.getfile is plain and inspect.getfile(gradio.Image).endswith("image.py")
assert [x for x in written if x.suffix == ".pyi"] == []
assert [x for x in parsed if "class Image(" in x or "class Gallery(" in x] == []
assert gradio.Image(label="a").label == "a" and callable(gradio.Image().upload)
"""


@pytest.mark.slow
def test_gradio_is_loaded_without_parsing_its_components() -> None:
    pytest.importorskip("gradio", reason="the studio needs gradio: pip install 'nst[studio]'")
    subprocess.run([sys.executable, "-c", STUBS], check=True, timeout=120)
