"""The API: a picture asked for, watched and fetched by a program, through Gradio's client or by plain requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import gradio as gr
from gradio.events import api

from nst.errors import InputError
from nst.studio.asked import Wish
from nst.studio.orders import Orders
from nst.studio.queue import Queue
from nst.studio.run import Run
from nst.studio.web.told import BEAT, sent, told
from nst.studio.web.view import FORMATS


class Api:
    """The endpoints `submit`, `watch`, `steer` and `fetch`.

    Args:
        orders: Turns wishes into runs.
        queue: The queue.
    """

    def __init__(self, orders: Orders, queue: Queue) -> None:
        self.orders, self.queue = orders, queue
        for function in (self.submit, self.watch, self.steer, self.fetch):
            api(function, api_name=function.__name__, concurrency_limit=None)

    def submit(
        self,
        preset: str = "starry",
        settings: dict[str, Any] | None = None,
        content: dict[str, Any] | None = None,
        styles: list[dict[str, Any]] | None = None,
        pinned: bool = True,
    ) -> str:
        """Puts a picture into the queue.

        Args:
            preset: The preset that the settings change.
            settings: Settings by key, such as `{"data.size": 320}`.
            content: The photograph, a file that was uploaded; None for the sample.
            styles: The paintings, files that were uploaded; None for the sample.
            pinned: Whether the run goes on where nobody watches.

        Returns:
            The run's name, for the other endpoints. Nobody can guess it, and who knows it may have the picture.
        """
        return told(self._submit)(preset, settings or {}, content, styles or [], pinned)  # type: ignore[no-any-return]

    async def watch(self, run: str) -> AsyncIterator[dict[str, Any]]:
        """Tells where a run is until it is over: state, message, place in the queue, step, level and time left."""
        found = self._find(run)
        while True:
            over = self._find(run).over
            yield {
                "state": found.state,
                "message": found.message,
                "place": self.queue.place(found),
                "left": self.queue.expected(found),
                **found.figures,
            }
            if over:
                return
            await asyncio.sleep(5 * BEAT)

    def steer(self, run: str, change: dict[str, Any]) -> str:
        """Changes settings of a run: `{"style_weight": 2}`, `{"end": "now"}`, `{"pause": true}`, `{"pause": false}`."""
        found = self._find(run)
        if "pause" in change:
            found.tell(kind="pause" if change["pause"] else "go on")
        else:
            told(self.orders.change)(found, change)
        return found.state

    def fetch(self, run: str, suffix: str = "png") -> dict[str, Any]:
        """Returns the picture as a file: `png`, `jpg`, `webp` or `tif`."""
        path = self.orders.folder.file(self._find(run).token, f"picture.{suffix}")
        if suffix not in FORMATS or path is None:
            raise gr.Error("Expected a picture that is done, but there is none yet", print_exception=False)
        return {"path": str(path), "meta": {"_type": "gradio.FileData"}, "orig_name": path.name}

    def _submit(self, preset: str, settings: dict[str, Any], content: Any, styles: Any, pinned: bool) -> str:
        self.queue.check_room()
        if not all(sent(x) for x in styles):
            raise InputError("Expected styles to be files that were uploaded, but got something else")
        wish = Wish(preset, settings, sent(content), [sent(x) for x in styles], pinned=pinned)
        run = self.orders.run(wish)
        self.queue.submit(run)
        return run.token

    def _find(self, token: str) -> Run:
        run = self.queue.find(token)
        if run is None:
            raise gr.Error("Expected the name of a run, but there is none of that name", print_exception=False)
        return run
