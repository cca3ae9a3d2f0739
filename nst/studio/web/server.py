"""The server: the page, the API, files of runs, a health endpoint, and the address it listens on."""

from __future__ import annotations

import os
import socket
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image

from nst.errors import InputError
from nst.studio.asked import Language
from nst.studio.orders import Orders
from nst.studio.queue import Queue
from nst.studio.web.api import Api
from nst.studio.web.events import Events
from nst.studio.web.page import Page, theme
from nst.studio.web.safety import LOCAL, Guard

PORT, TRIES = 7860, 100
"""The first port that is tried where none is asked for, and how many are."""

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Options:
    """Where and for whom the studio listens.

    Attributes:
        host: The address to listen on.
        port: The port; None for the first that is free from PORT on.
        auth: NAME:PASSWORD; None for none.
        max_upload: Bytes of a file that is sent, at most.
        api_only: Whether there is no page.
    """

    host: str
    port: int | None
    auth: str | None
    max_upload: int
    api_only: bool


class Server(uvicorn.Server):
    """Prints its address once it listens, and then has the processes made ready.

    Args:
        config: Uvicorn's settings.
        address: The address.
        queue: The queue.
    """

    def __init__(self, config: uvicorn.Config, address: str, queue: Queue) -> None:
        super().__init__(config)
        self.address, self.queue = address, queue

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"studio    {self.address}", flush=True)
            self.queue.start()


def serve(options: Options, language: Language, queue: Queue) -> int:
    """Listens until it is stopped; returns the exit code."""
    listener = listen(options.host, options.port)
    port = listener.getsockname()[1]
    try:
        app = application(options, language, queue, port)
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1, lifespan="on", ws="none")
        host = f"[{options.host}]" if ":" in options.host else options.host
        Server(config, f"http://{host}:{port}", queue).run([listener])
    finally:
        queue.close()
    return 0


def listen(host: str, port: int | None) -> socket.socket:
    """Returns a socket that listens.

    Raises:
        InputError: If the port is taken, or the machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(PORT, PORT + TRIES) if port is None else [port]:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(128)
            return listener
        except OSError as error:
            listener.close()
            reason = error.strerror
    where = f"{PORT} to {PORT + TRIES - 1}" if port is None else str(port)
    raise InputError(
        f"Expected --studio.port to be free on --studio.host, but {host} has no port {where} ({reason}); choose another"
    )


def application(options: Options, language: Language, queue: Queue, port: int) -> Any:
    """Returns the whole application, behind its Guard."""
    folder = queue.folder
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_RUN_HISTORY": "False",
        "GRADIO_TEMP_DIR": str(folder.uploads),
        "HF_HUB_OFFLINE": "1",
    }
    # what Gradio decodes itself are the regions that were painted
    Image.MAX_IMAGE_PIXELS = queue.limits.pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    app = FastAPI(openapi_url=None)

    @app.get("/health")
    def health() -> JSONResponse:
        return JSONResponse({"status": "ok", "version": version("nst"), **queue.counts()})

    @app.get("/studio/runs/{token}/{name}")
    def file(token: str, name: str) -> Response:
        path = folder.file(token, name)
        return Response(status_code=404) if path is None else FileResponse(path)

    orders = Orders(language, folder, queue.limits)
    with gr.Blocks(title="nst studio", analytics_enabled=False, fill_width=True) as blocks:
        Api(orders, queue)  # before the page, so that its endpoints have their names
        if options.api_only:
            gr.Markdown("This studio has an API and no page.")
        else:
            Events(blocks, Page(language, queue.limits), language, orders, queue)
    blocks.queue(default_concurrency_limit=None)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=options.host,
        server_port=port,
        footer_links=[],
        allowed_paths=[str(folder.runs)],
        max_file_size=options.max_upload,
        ssr_mode=False,
        pwa=False,
        theme=theme(),
        css_paths=HERE / "studio.css",
        head=None if options.api_only else f"<script>{(HERE / 'studio.js').read_text(encoding='utf-8')}</script>",
    )
    return Guard(app, options.host in LOCAL, options.auth, options.max_upload)
