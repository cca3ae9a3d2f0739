"""The page: what lies where on it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import gradio as gr

from nst.pictures.color import Color
from nst.scene import samples
from nst.studio.asked import Language, Limits
from nst.studio.masks import PALETTE
from nst.studio.web import view
from nst.studio.web.form import Form

FONT = ("system-ui", "sans-serif")
"""Fonts that a machine has: a page loads none from elsewhere."""

ROWS = 9
"""Pictures of a sweep, at most."""


def theme() -> Any:
    """Returns Gradio's plain theme with the machine's fonts and a colour of enough contrast."""
    plain = gr.themes.Default(primary_hue="indigo", font=FONT, font_mono=("ui-monospace", "monospace"))
    fill, darker, stop, darker_stop = "*primary_700", "*primary_800", "#b91c1c", "#991b1b"
    return plain.set(
        button_primary_background_fill=fill,
        button_primary_background_fill_dark=fill,
        button_primary_background_fill_hover=darker,
        button_primary_background_fill_hover_dark=darker,
        button_cancel_background_fill=stop,
        button_cancel_background_fill_dark=stop,
        button_cancel_background_fill_hover=darker_stop,
        button_cancel_background_fill_hover_dark=darker_stop,
    )


def named(names: Iterable[str]) -> list[tuple[str, str]]:
    """Returns samples as the choices of a field."""
    return [(name, f"{samples.PREFIX}{name}") for name in names]


class Page:
    """The parts of the page, by the names under which `events` ties them together.

    Args:
        language: The command line's settings.
        limits: What a run may take.
    """

    def __init__(self, language: Language, limits: Limits) -> None:
        self.first = next(iter(language.presets))
        self.form = Form(language.settings, language.values(self.first), limits.size)
        self.token = gr.State("")
        self.mine = gr.BrowserState([], storage_key="nst-runs", secret="nst")
        self.sent = gr.State((None, []))
        gr.HTML('<h1 class="nst-title">nst studio</h1>')
        with gr.Row(elem_classes="nst-columns"):
            with gr.Column(scale=2, min_width=320):
                self._pictures(language, limits)
            with gr.Column(scale=5, min_width=340), gr.Tabs() as self.tabs:
                with gr.Tab("Picture", id="picture"):
                    self._picture(limits)
                with gr.Tab("Compare", id="compare"):
                    self.compare = gr.ImageSlider(
                        label="Photograph and picture", type="filepath", interactive=False, max_height=900
                    )
                with gr.Tab("Regions", id="regions") as self.brushing:
                    self._regions()
                with gr.Tab("Results", id="results"):
                    self._results(language)
                with gr.Tab("Take away", id="away"):
                    self.links = gr.HTML(view.downloads(None))
                    self.yaml = gr.Code(label="Settings, for nst fit --config", language="yaml", lines=8, max_lines=16)
                    self.command = gr.Textbox(
                        label="The command line of the same picture",
                        buttons=["copy"],
                        lines=3,
                        elem_id="command",
                    )

    def _pictures(self, language: Language, limits: Limits) -> None:
        self.photograph = gr.Image(
            label="Photograph, or else the sample",
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            height=150,
            elem_id="photograph",
        )
        self.content = gr.Dropdown(
            named(samples.PHOTOGRAPHS),
            label="Sample",
            elem_id="sample-photograph",
            interactive=True,
        )
        self.paintings = gr.Gallery(
            label="Paintings, one or more, or else the sample",
            type="filepath",
            interactive=True,
            height=150,
            columns=3,
            file_types=["image"],
            elem_id="paintings",
        )
        self.style = gr.Dropdown(
            named(samples.PAINTINGS),
            value=samples.names(samples.WORD, "data.style"),
            multiselect=True,
            label="Samples",
            elem_id="sample-paintings",
            interactive=True,
        )
        line = language.presets[self.first]
        self.preset = gr.Dropdown([*language.presets], value=self.first, label="Preset", info=line, elem_id="preset")
        self.form.in_sight()
        self.pinned = gr.Checkbox(label="Go on when this page is closed", elem_id="pinned")
        self.paint = gr.Button("Paint", variant="primary", elem_id="paint")
        with gr.Accordion("More", open=False, elem_id="more"):
            self.form.more()

    def _picture(self, limits: Limits) -> None:
        self.canvas = gr.HTML(view.canvas(None))
        with gr.Row():
            self.pause = gr.Button("Pause", interactive=False, elem_id="pause", min_width=80)
            self.stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=80, variant="stop")
            self.last = gr.Button("Stop at this level", interactive=False, elem_id="last", min_width=140)
        self.status = gr.HTML(view.status(None))
        with gr.Accordion("Steer", open=False, elem_id="steer"):
            gr.Markdown("A change takes hold at the next step, and is kept in the record.")
            with gr.Row():
                number: dict[str, Any] = {"min_width": 130, "interactive": True}
                self.steering = [
                    gr.Number(label="Style weight", elem_id="steer-style", **number),
                    gr.Number(label="Content weight", elem_id="steer-content", **number),
                    gr.Number(label="Strength", elem_id="steer-strength", **number),
                    gr.Dropdown([*get_args(Color)], label="Colours", elem_id="steer-color", **number),
                    gr.Number(label=f"Go on to, of {limits.size} pixels", precision=0, elem_id="steer-size", **number),
                ]
            self.change = gr.Button("Change", interactive=False, elem_id="change")

    def _regions(self) -> None:
        gr.Markdown(
            "Paint regions on the photograph, and say below what becomes of each. What is not painted takes the "
            "paintings that no region has."
        )
        self.editor = gr.ImageEditor(
            label="Photograph with regions",
            type="numpy",
            format="png",
            image_mode="RGBA",
            sources=[],
            transforms=(),
            layers=False,
            brush=gr.Brush(default_size=32, colors=[*PALETTE.values()], color_mode="fixed"),
            height=460,
            elem_id="editor",
        )
        self.places: list[tuple[str, Any, Any]] = []
        with gr.Row():
            for name in PALETTE:
                with gr.Column(min_width=150):
                    painting = gr.Dropdown(
                        [("kept as it is", -1), *((f"painting {i + 1}", i) for i in range(6))],
                        value=0,
                        label=f"{name.capitalize()}: painting",
                        elem_id=f"place-{name}",
                    )
                    weight = gr.Number(1.0, label=f"{name.capitalize()}: content weight", elem_id=f"weight-{name}")
                    self.places.append((name, painting, weight))
        with gr.Row():
            self.save_mask = gr.Button("Save the mask", elem_id="save-mask")
            self.load_mask = gr.UploadButton("Load a mask", file_types=["image"], elem_id="load-mask")
        self.mask_file = gr.File(label="Mask", interactive=False, visible=False, elem_id="mask-file")

    def _results(self, language: Language) -> None:
        self.gallery = gr.Gallery(
            label="Your last pictures: choose one for its settings",
            interactive=False,
            height=360,
            columns=4,
            object_fit="contain",
            elem_id="gallery",
        )
        self.listed = gr.State([])  # the runs whose pictures are there
        self.dropped = gr.File(
            label="Take the settings of a picture that nst made", type="filepath", height=120, elem_id="dropped"
        )
        with gr.Accordion("Compare settings", open=False, elem_id="sweep"):
            with gr.Row():
                self.swept = gr.Dropdown(
                    [x.key for x in language.settings], value="model.style_weight", label="Setting", elem_id="swept"
                )
                self.values = gr.Textbox("0.3, 1, 3", label=f"Its values, up to {ROWS}", elem_id="swept-values")
            self.sweep = gr.Button("Paint all", elem_id="sweep-paint")
            self.sheet = gr.Gallery(
                label="Choose one to take its settings",
                interactive=False,
                height=360,
                columns=3,
                object_fit="contain",
                elem_id="sheet",
            )
            self.cells, self.laid = gr.State([]), gr.State([])  # the runs, and those whose pictures are on the sheet

    @property
    def wish(self) -> list[Any]:
        """The parts that say what to paint, in the order of `events.wish`."""
        places = [x for _, *pair in self.places for x in pair]
        given = [self.preset, self.sent, self.content, self.style, self.editor, self.pinned]
        return [*given, *places, *self.form.fields]

    @property
    def taken(self) -> list[Any]:
        """The parts that show settings which are taken from a picture."""
        return [self.content, self.style, *self.form.fields]

    @property
    def shown(self) -> list[Any]:
        """The parts that show a run, in the order of `events.shown`."""
        buttons = [self.paint, self.pause, self.stop, self.last, self.change]
        return [self.canvas, self.status, *buttons, self.compare, self.links, self.yaml, self.command]
