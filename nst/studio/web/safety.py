"""What stands before every request: who may ask, from where, and how much; and what a page may load."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOCAL = ("127.0.0.1", "localhost", "::1")
"""Names of this machine. Another name that leads here is a page elsewhere that has had it rebound."""

HEADERS = {
    # Gradio's scripts make functions of texts; all that they load is of the studio itself
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' data: blob:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers of every answer."""

JSON_BYTES = 4 << 20
"""Bytes of a request that is no upload, at most."""

FILES = 16
"""Files in one upload, at most."""

WRONG_PASSWORD = 1.0
"""Seconds that the answer to a wrong password takes, so that trying many takes long."""

OPEN = "/health"
"""The path that asks for no password: it says nothing of anybody's pictures."""


class TooLargeError(Exception):
    """A request has more bytes than it may have."""


class Guard:
    """Refuses what may not come in, and adds HEADERS to what goes out.

    Args:
        app: What answers the rest.
        local: Whether the studio listens to this machine alone, so that it has no other name.
        auth: NAME:PASSWORD; None for none.
        max_upload: Bytes of a file, at most.
    """

    def __init__(self, app: App, local: bool, auth: str | None, max_upload: int) -> None:
        self.app, self.local, self.max_upload = app, local, max_upload
        self.auth = None if auth is None else b"Basic " + base64.b64encode(auth.encode())

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # the studio has no websockets
            return await send({"type": "websocket.close", "code": 1008})
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if (reason := self._foreign(scope, headers)) is not None:
            return await _answer(send, 403, reason)
        if scope["path"] != OPEN and not self._known(headers):
            if "authorization" in headers:
                await asyncio.sleep(WRONG_PASSWORD)
            ask = [(b"www-authenticate", b'Basic realm="nst studio", charset="UTF-8"')]
            return await _answer(send, 401, "A name and a password are needed.", ask)
        upload = scope["path"].endswith("/upload")
        most = FILES * self.max_upload if upload else JSON_BYTES
        too_large = f"Expected at most {most} bytes in a request."
        if int(headers.get("content-length") or 0) > most:
            return await _answer(send, 413, too_large)
        started = False

        async def answering(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                taken = {name for name, _ in own} | {b"access-control-allow-origin"}
                message["headers"] = [x for x in message.get("headers", []) if x[0].lower() not in taken] + own
            await send(message)

        try:
            asked = counted(receive, most)
            if scope["method"] == "POST" and not upload:
                asked, body = await whole(asked)
                if names_address(body):
                    return await _answer(send, 400, "Expected files that were sent, but got an address.")
            await self.app(scope, asked, answering)
        except TooLargeError:
            if not started:
                await _answer(send, 413, too_large)

    def _foreign(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> str | None:
        """Returns why a request is not one of the studio's own page; None where it may be."""
        host = headers.get("host", "")
        if self.local and urlsplit(f"//{host}").hostname not in LOCAL:
            return "Expected this machine's own name; open the address that nst studio printed."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "Expected a request of the studio's own page, but another page sent it."
        opened = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not (opened and scope["path"] == "/"):
            return "Expected a request of the studio's own page, but another page sent it."
        return None

    def _known(self, headers: dict[str, str]) -> bool:
        given = headers.get("authorization", "").encode("latin-1")
        return self.auth is None or hmac.compare_digest(given, self.auth)


def counted(receive: Receive, most: int) -> Receive:
    """Returns a receiver that raises a TooLargeError after so many bytes, whatever the header said."""
    left = most

    async def counting() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise TooLargeError
        return message

    return counting


async def whole(receive: Receive) -> tuple[Receive, bytes]:
    """Reads a request's body; returns a receiver that gives it once more, and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if message["type"] == "http.disconnect":
            break
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again, body


def names_address(body: bytes) -> bool:
    """Whether a body of JSON names a file by an address, which Gradio would fetch."""
    try:
        tree = json.loads(body or b"null")
    except (ValueError, RecursionError):
        return False
    left = [tree]
    while left:
        entry = left.pop()
        if isinstance(entry, dict):
            path = entry.get("path")
            if isinstance(path, str) and "://" in path:
                return True
            left += entry.values()
        elif isinstance(entry, list):
            left += entry
    return False


async def _answer(send: Send, code: int, text: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *(more or [])]
    headers += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
