"""What happens on the page: each part's event, and what it does to runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from nst.errors import InputError
from nst.scene import samples
from nst.studio import masks
from nst.studio.asked import Brushed, Language, Wish
from nst.studio.orders import Orders
from nst.studio.queue import Queue
from nst.studio.run import STEERED, Run
from nst.studio.web import view
from nst.studio.web.page import ROWS, Page
from nst.studio.web.told import BEAT, sent, told

REMEMBERED = 24
"""Pictures that a browser remembers."""


class Events:
    """Ties a page to the queue.

    Args:
        blocks: What the page is built in.
        page: The page.
        language: The command line's settings.
        orders: Turns wishes into runs.
        queue: The queue.
    """

    def __init__(self, blocks: gr.Blocks, page: Page, language: Language, orders: Orders, queue: Queue) -> None:
        self.page, self.language, self.orders, self.queue = page, language, orders, queue
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
        raw = quiet | {"preprocess": False}
        p, follow = page, {"fn": self.watch, "inputs": [page.token], "outputs": [*page.shown, *page.steering], **quiet}
        p.paint.click(self.pictures, [p.photograph, p.paintings], p.sent, **raw).success(
            self.submit, [p.mine, *p.wish], [p.token, p.mine], **quiet
        ).success(**follow).then(self.results, p.mine, [p.gallery, p.listed], **quiet)
        blocks.load(self.arrive, p.mine, [p.token, p.gallery, p.listed], **quiet).success(**follow).then(
            self.results, p.mine, [p.gallery, p.listed], **quiet
        )
        p.preset.change(self.preset, p.preset, [p.preset, *p.form.fields], **quiet)
        p.photograph.input(self.photograph, [p.photograph, p.content], [p.photograph, p.editor], **raw)
        p.content.change(self.canvas, [p.photograph, p.content], p.editor, **raw)
        p.brushing.select(self.first_canvas, [p.editor, p.photograph, p.content], p.editor, **raw)
        p.paintings.upload(self.paintings, p.paintings, None, **raw)
        p.pause.click(self.pause, p.token, None, **quiet)
        p.stop.click(self.end("now"), p.token, None, **quiet)
        p.last.click(self.end("level"), p.token, None, **quiet)
        p.change.click(self.change, [p.token, *p.steering], None, **quiet)
        p.save_mask.click(self.save_mask, p.editor, p.mask_file, **quiet)
        p.load_mask.upload(self.load_mask, [p.load_mask, p.photograph, p.content], p.editor, **raw)
        p.gallery.select(self.take_result, [p.listed, p.preset], p.taken, **quiet)
        p.dropped.upload(self.take_dropped, [p.dropped, p.preset], p.taken, **raw)
        p.sweep.click(self.pictures, [p.photograph, p.paintings], p.sent, **raw).success(
            self.sweep, [p.swept, p.values, *p.wish], p.cells, **quiet
        ).success(self.watch_cells, p.cells, [p.sheet, p.laid], **quiet)
        p.sheet.select(self.take_result, [p.laid, p.preset], p.taken, **quiet)

    def wish(self, values: Sequence[Any]) -> Wish:
        """Returns what the parts of `Page.wish` ask for."""
        preset, (photograph, paintings), content, style, editor, pinned, *rest = values
        count = 2 * len(self.page.places)
        places, fields = rest[:count], rest[count:]
        brushed = [
            Brushed(name, None if places[2 * i] == -1 else places[2 * i], float(places[2 * i + 1] or 0))
            for i, (name, *_) in enumerate(self.page.places)
        ]
        return Wish(
            preset,
            {**self.page.form.read(fields), "data.content": content, "data.style": style},
            photograph,
            paintings,
            self.map_of(editor),
            brushed,
            bool(pinned),
        )

    def pictures(self, photograph: Any, paintings: Any) -> tuple[str | None, list[str | None]]:
        """Returns the files that the browser has sent, of which nothing has been decoded."""
        return sent(photograph), [sent(x["image"]) for x in paintings or []]

    def map_of(self, editor: Any) -> Any:
        """Returns the map of the regions that were painted; None for none."""
        return masks.painted((editor or {}).get("layers") or [])

    @told
    def submit(self, mine: list[str], *values: Any) -> tuple[str, list[str]]:
        """Puts what the page asks for into the queue."""
        self.queue.check_room()
        run = self.orders.run(self.wish(values))
        self.queue.submit(run)
        return run.token, [run.token, *(mine or [])][:REMEMBERED]

    def arrive(self, mine: list[str]) -> tuple[str, list[tuple[str, str]], list[str]]:
        """Returns the run of this browser that still goes on, where there is one, and its pictures."""
        going = [x for x in mine or [] if (run := self.queue.runs.get(str(x))) is not None and not run.over]
        return next(iter(going), ""), *self.results(mine)

    async def watch(self, token: str) -> AsyncIterator[list[Any]]:
        """Shows a run as it changes, until it is over."""
        before: tuple[Any, ...] = ()
        shown = 0.0
        yield [gr.skip() for _ in [*self.page.shown, *STEERED]]  # where there is no run, all stays as it is
        while (run := self.queue.find(token)) is not None:
            over, now = run.over, (run.looks, run.state, run.message, len(run.changes), self.queue.place(run))
            if now != before or time.monotonic() - shown > 2:
                steered = [gr.skip() if before else gr.update(value=run.steered[name]) for name in STEERED]
                yield [*self.shown(run, fresh=not before or now[:2] != before[:2]), *steered]
                before, shown = now, time.monotonic()
            if over:  # before this look, so that the last one shows the end
                return
            await asyncio.sleep(BEAT)

    def shown(self, run: Run, fresh: bool = True) -> list[Any]:
        """Returns what the parts of `Page.shown` show of a run."""
        going = run.state in ("painting", "paused")
        buttons = [
            gr.update(interactive=run.over, value="Paint" if run.over else "Painting …"),
            gr.update(interactive=going, value="Go on" if run.state == "paused" else "Pause"),
            gr.update(interactive=not run.over),
            gr.update(interactive=going),
            gr.update(interactive=going),
        ]
        parts = [
            view.canvas(run) if fresh else gr.skip(),
            view.status(run, self.queue.place(run), self.queue.expected(run)),
            *buttons,
        ]
        written = run.order.folder / "settings.yaml"
        if not (run.over and written.exists()):
            return [*parts, gr.skip(), gr.skip(), gr.skip(), gr.skip()]
        pair = str(run.order.folder / "before.jpg"), str(run.order.folder / "picture.jpg")
        return [*parts, pair, view.downloads(run), written.read_text(encoding="utf-8"), self.orders.command(run)]

    def results(self, tokens: list[str] | None) -> tuple[list[tuple[str, str]], list[str]]:
        """Returns the pictures of runs that are done and still there, and the runs that they are of."""
        found = self.orders.folder.results(tokens or [])
        return found, [Path(picture).parent.name for picture, _ in found]

    def preset(self, preset: str) -> list[Any]:
        """Shows what a preset is for, and its values."""
        if preset not in self.language.presets:
            return [gr.skip() for _ in range(1 + len(self.page.form.fields))]
        return [gr.update(info=self.language.presets[preset]), *self.page.form.show(self.language.values(preset))]

    def photograph(self, value: Any, sample: Any) -> tuple[Any, Any]:
        """Checks a photograph that was sent, and puts a copy of it on the canvas for regions."""
        try:
            return gr.skip(), self._canvas(value, sample)
        except InputError as error:
            gr.Warning(escape(str(error), quote=False), duration=None)
            return None, None

    @told
    def canvas(self, value: Any, sample: Any) -> Any:
        """Puts a copy of the photograph, or else of the sample, on the canvas for regions."""
        return gr.skip() if sent(value) else self._canvas(None, sample)

    @told
    def first_canvas(self, editor: Any, value: Any, sample: Any) -> Any:
        """Puts a copy of the photograph on the canvas for regions where there is none yet."""
        return gr.skip() if (editor or {}).get("background") else self._canvas(value, sample)

    @told
    def paintings(self, value: Any) -> None:
        """Checks the paintings that were sent."""
        for entry in value or []:
            self.orders.folder.uploaded(sent(entry["image"]), "data.style", self.queue.limits.pixels)

    def pause(self, token: str) -> None:
        """Pauses a run, or lets it go on."""
        if (run := self.queue.find(token)) is not None:
            run.tell(kind="go on" if run.state == "paused" else "pause")

    def end(self, when: str) -> Callable[[str], None]:
        """Returns what ends a run: now, or after its level."""

        def ending(token: str) -> None:
            if (run := self.queue.find(token)) is None:
                return
            if when == "now":
                self.queue.stop(run)
            else:
                run.change(end=when)

        return ending

    @told
    def change(self, token: str, style: Any, content: Any, strength: Any, color: Any, size: Any) -> None:
        """Changes settings of a run that goes on."""
        given = dict(zip(STEERED, (style, content, strength, color, size), strict=True))
        run = self.queue.find(token)
        settings = {} if run is None else {name: x for name, x in given.items() if x not in (None, run.steered[name])}
        if run is not None and settings:
            self.orders.change(run, settings)

    @told
    def save_mask(self, editor: Any) -> Any:
        """Returns the map of the painted regions as a file."""
        colors = self.map_of(editor)
        if colors is None:
            raise InputError("Expected a painted region, but nothing is painted; paint one with the brush")
        folder = self.orders.folder.uploads / f"mask-{time.time_ns()}"
        folder.mkdir()
        masks.save(colors, folder / "map.png")
        return gr.update(value=str(folder / "map.png"), visible=True)

    @told
    def load_mask(self, value: Any, photograph: Any, sample: Any) -> Any:
        """Puts a map of regions on the photograph."""
        canvas, pixels = self._canvas(photograph, sample), self.queue.limits.pixels
        mask = self.orders.folder.uploaded(sent(value), "data.regions", pixels)
        height, width = canvas["background"].shape[:2]
        return canvas | {"layers": [masks.load(mask, height, width, pixels)]}

    @told
    def take_result(self, shown: list[str], preset: str, event: gr.SelectData) -> list[Any]:
        """Takes the settings of one of the pictures that are shown, whose runs are named in their order."""
        path = self.orders.folder.file(shown[event.index], "picture.png")
        if path is None:
            raise InputError("Expected a picture of the studio, but this one has been cleaned away; choose another")
        return self._take(path, preset)

    @told
    def take_dropped(self, value: Any, preset: str) -> list[Any]:
        """Takes the settings of a picture that was sent."""
        return self._take(self.orders.folder.uploaded(sent(value), "config", self.queue.limits.pixels), preset)

    @told
    def sweep(self, key: str, values: str, *wish: Any) -> list[str]:
        """Puts a picture for each value of a setting into the queue."""
        found = [x.strip() for x in values.split(",") if x.strip()]
        if not 2 <= len(found) <= ROWS:
            raise InputError(f"Expected 2 to {ROWS} values between commas, but got {len(found)}; change them")
        base = self.wish(wish)
        runs = []
        for value in found:
            run = self.orders.run(self.orders.with_setting(base, key, value), f"{key.rpartition('.')[2]} {value}")
            self.queue.submit(run)
            runs.append(run.token)
        return runs

    async def watch_cells(self, cells: list[str]) -> AsyncIterator[tuple[list[tuple[str, str]], list[str]]]:
        """Shows the pictures of a sweep as they are done."""
        count = -1
        while runs := [run for run in map(self.queue.find, cells) if run is not None]:
            over = all(run.over for run in runs)  # before its picture is looked for, or the last one may be missed
            made, names = self.results(cells)
            if len(made) != count:
                count = len(made)
                yield made, names
            if over:
                return
            await asyncio.sleep(1.0)

    def _canvas(self, value: Any, sample: Any) -> dict[str, Any]:
        """Returns what the editor shows of a photograph that was sent, or else of a sample."""
        pixels, path = self.queue.limits.pixels, sent(value)
        found = samples.path(str(sample)) if path is None else self.orders.folder.uploaded(path, "data.content", pixels)
        return {"background": masks.copy_of(found, pixels), "layers": [], "composite": None}

    def _take(self, path: Path, preset: str) -> list[Any]:
        found, left = self.orders.of_picture(path, preset)
        if left:
            gr.Info(f"Left out of the record: {escape(', '.join(left))}")
        content, style = (samples.names(found.get(f"data.{x}") or [], f"data.{x}") for x in ("content", "style"))
        chosen = [content[0] if content else None, style or None]
        return [*(gr.update() if x is None else gr.update(value=x) for x in chosen), *self.page.form.show(found)]
