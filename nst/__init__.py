"""Neural style transfer by optimising the pixels (Gatys, Ecker and Bethge, arXiv:1508.06576)."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from nst.machine import clock as clock

if TYPE_CHECKING:
    from nst.api import stylize, stylize_video
    from nst.errors import InputError, RunError
    from nst.optimise.module import StyleTransfer
    from nst.optimise.optimizers import LaplacianAdam
    from nst.scene.data import PictureData
    from nst.scene.styles import Region, Style

__version__ = version("nst")

__all__ = [
    "InputError",
    "LaplacianAdam",
    "PictureData",
    "Region",
    "RunError",
    "Style",
    "StyleTransfer",
    "__version__",
    "stylize",
    "stylize_video",
]

_HOMES = {
    "InputError": "nst.errors",
    "LaplacianAdam": "nst.optimise.optimizers",
    "PictureData": "nst.scene.data",
    "Region": "nst.scene.styles",
    "RunError": "nst.errors",
    "Style": "nst.scene.styles",
    "StyleTransfer": "nst.optimise.module",
    "stylize": "nst.api",
    "stylize_video": "nst.api",
}
"""Where each name is defined: a name is imported when it is first used, as torch takes seconds to load."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return found


def __dir__() -> list[str]:
    return __all__
