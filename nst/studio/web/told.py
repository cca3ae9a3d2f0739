"""What the page and the API share: errors as messages, and files as Gradio names them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any

import gradio as gr

from nst.errors import InputError, RunError

BEAT = 0.1
"""Seconds between two looks at a run."""


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Shows errors of what a user gave as a message on the page."""

    @wraps(function)
    def telling(*args: Any) -> Any:
        try:
            return function(*args)
        except (InputError, RunError) as error:
            raise gr.Error(escape(str(error), quote=False), duration=None, print_exception=False) from None

    return telling


def sent(value: Any) -> str | None:
    """Returns the path of a file that a browser has sent, as Gradio says it before anything is decoded."""
    found = value.get("path") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None
