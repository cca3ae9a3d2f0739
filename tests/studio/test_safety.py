"""What stands before every request: other pages, other names, passwords, too much, addresses."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from nst.studio.web import safety
from nst.studio.web.safety import HEADERS, JSON_BYTES, Guard

HERE = {"host": "127.0.0.1:7860"}


def ask(
    path: str = "/",
    headers: Mapping[str, str] = HERE,
    method: str = "GET",
    body: tuple[bytes, ...] = (b"",),
    local: bool = True,
    auth: str | None = None,
    kind: str = "http",
) -> tuple[int, dict[str, str], bytes]:
    """Sends a request through a Guard to an application that gives back what it was sent."""
    parts = [{"type": "http.request", "body": x, "more_body": i + 1 < len(body)} for i, x in enumerate(body)]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found, more = b"", True
        while more:
            message = await receive()
            found, more = found + message["body"], message["more_body"]
        echoed = [(b"access-control-allow-origin", b"*")]
        await send({"type": "http.response.start", "status": 200, "headers": echoed})
        await send({"type": "http.response.body", "body": found})

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": kind, "path": path, "method": method, "headers": raw, "scheme": "http"}
    # in a thread, as this one has an event loop where a browser was driven before
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, Guard(app, local, auth, 1000)(scope, receive, send)).result()
    if kind == "websocket":
        return sent[0]["code"], {}, b""
    got = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], got, sent[1]["body"]


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:7860", "[::1]:7860"])
def test_this_machine_gets_in(host: str) -> None:
    code, headers, _ = ask(headers={"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"})
    assert code == 200 and HEADERS.items() <= headers.items()
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:7860"},
        {},
        {**HERE, "origin": "http://evil.example"},
        {**HERE, "origin": "http://127.0.0.1:7861"},
        {**HERE, "origin": "null"},
        {**HERE, "sec-fetch-site": "cross-site"},
        {**HERE, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_other_pages_and_names_do_not(headers: dict[str, str]) -> None:
    assert ask("/gradio_api/queue/join", headers, "POST")[0] == 403


def test_a_link_on_another_page_opens_the_studio_and_nothing_else() -> None:
    link = {**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask("/", link)[0] == 200
    assert ask("/gradio_api/call/submit", link)[0] == 403


def test_with_a_password_any_name_of_the_machine_is_good() -> None:
    basic = "Basic " + base64.b64encode("anna:sesam öffne".encode()).decode()
    assert ask(headers={"host": "studio.lan", "authorization": basic}, local=False, auth="anna:sesam öffne")[0] == 200


def test_without_the_password_nothing_comes_out_but_that_the_studio_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "WRONG_PASSWORD", 0.0)
    for given in ({}, {"authorization": "Basic " + base64.b64encode(b"anna:x").decode()}, {"authorization": "x"}):
        for path in ("/", "/studio/runs/x/picture.png", "/gradio_api/upload"):
            code, headers, _ = ask(path, {**HERE, **given}, auth="anna:sesam")
            assert code == 401 and headers["www-authenticate"].startswith("Basic ")
    assert ask("/health", auth="anna:sesam")[0] == 200


def test_requests_are_bounded_whatever_their_header_says() -> None:
    assert ask("/x", method="POST", body=(b"1" * 100,))[2] == b"1" * 100
    assert ask("/x", {**HERE, "content-length": str(JSON_BYTES + 1)}, "POST")[0] == 413
    half = b" " * (JSON_BYTES // 2 + 1)
    assert ask("/x", method="POST", body=(half, half))[0] == 413
    assert ask("/gradio_api/upload", method="POST", body=(b"1" * 16_000,))[0] == 200
    assert ask("/gradio_api/upload", method="POST", body=(b"1" * 9000, b"1" * 9000))[0] == 413


@pytest.mark.parametrize("path", ["http://127.0.0.1/x.png", "https://a.example/x", "file:///etc/passwd"])
def test_no_address_is_fetched(path: str) -> None:
    body = json.dumps({"data": [[{"image": {"path": path, "meta": {"_type": "gradio.FileData"}}}]]})
    assert ask("/gradio_api/queue/join", method="POST", body=(body.encode(),))[0] == 400
    hidden = body.replace("http", "\\u0068ttp").replace("file:", "\\u0066ile:")
    assert ask("/gradio_api/queue/join", method="POST", body=(hidden[:30].encode(), hidden[30:].encode()))[0] == 400
    assert ask("/gradio_api/queue/join", method="POST", body=(b'{"path": "/a/b.png"}',))[0] == 200


def test_there_are_no_websockets() -> None:
    assert ask(kind="websocket")[0] == 1008


def test_a_page_may_load_nothing_from_elsewhere() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'" and policy["frame-ancestors"] == "'none'"
    assert not any("http" in sources or "*" in sources for sources in policy.values())
