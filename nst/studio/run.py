"""A run as the studio knows it: what it is to make, and what its worker has said of it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from nst.studio.asked import Order

OVER = ("done", "stopped", "failed")
"""States of a run that is over."""

STEERED = ("style_weight", "content_weight", "strength", "color", "size")
"""Settings that may change while a run goes on."""

POINTS = 300
"""Points of a run's curve; where it gets more, every other one is left out."""


@dataclass(eq=False)
class Run:
    """A picture that waits, is made or is there.

    Attributes:
        token: Its name, which nobody can guess.
        order: What is to be made.
        title: What it is, for people.
        flags: Flags of `nst fit` that make the same picture.
        cost: Its work, as a number of pixels times steps.
        pinned: Whether it goes on where nobody watches.
        state: `waiting`, `starting`, `painting`, `paused`, `done`, `stopped` or `failed`.
        message: What there is to say about its end, or about a change that was refused.
        reason: Why the studio ended it.
        figures: What the worker said last: step, level, size, time left.
        curve: Step and losses.
        preview: The picture as it is, as JPEG.
        changes: The changes that were made.
        steered: The settings of STEERED as they are.
    """

    token: str
    order: Order
    title: str
    flags: tuple[str, ...]
    cost: float
    steered: dict[str, Any]
    pinned: bool = False
    state: str = "waiting"
    message: str = ""
    reason: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    preview: bytes | None = None
    looks: int = 0
    changes: list[dict[str, Any]] = field(default_factory=list)
    seen: float = field(default_factory=time.monotonic)
    begun: float | None = None
    ended: float | None = None
    pipe: Connection | None = None

    @property
    def over(self) -> bool:
        return self.state in OVER

    def tell(self, **word: Any) -> None:
        """Says something to the worker; a worker that is gone does not hear it."""
        if self.pipe is not None:
            with suppress(OSError, ValueError):
                self.pipe.send(word)

    def change(self, **settings: Any) -> None:
        """Changes settings after the current step (see `Change`)."""
        self.tell(kind="change", change=settings)

    def hear(self, word: dict[str, Any]) -> None:
        """Notes what the worker says."""
        kind = word.pop("kind")
        if kind == "state":
            self.state, self.preview = word.pop("state"), word.pop("preview") or self.preview
            self.looks += 1
            self.figures |= word
            if word["losses"] and (not self.curve or self.curve[-1][1] != word["losses"]):
                self.curve.append((word["step"], word["losses"]))
                if len(self.curve) > POINTS:
                    self.curve = self.curve[::2]
        elif kind == "begun":
            self.state, self.begun = "painting", time.monotonic()
            self.figures |= word
        elif kind == "changed":
            self.changes.append(word["change"])
            self.steered |= {name: x for name, x in self.changes[-1].items() if name in STEERED}
            self.message = ""
        elif kind == "refused":
            self.message = word["message"]
        elif kind == "done":
            self.figures |= word
            self.end("done" if word["complete"] else "stopped", "" if word["complete"] else self.reason)
        elif kind == "failed":
            self.end("failed", word["message"].replace(f"{self.order.folder}/", ""))

    def end(self, state: str, message: str) -> None:
        """Notes the end; the state comes last, as others look at it first."""
        self.ended, self.pipe = time.monotonic(), None
        self.message, self.state = message, state
