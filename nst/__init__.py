"""Neural style transfer by optimising the pixels (Gatys, Ecker and Bethge, arXiv:1508.06576)."""

from importlib.metadata import version

from nst.machine import clock as clock

# isort: split

__version__ = version("nst")

from nst.api import stylize
from nst.errors import InputError, RunError
from nst.optimise.module import StyleTransfer
from nst.optimise.optimizers import LaplacianAdam
from nst.scene.data import PictureData
from nst.scene.styles import Region, Style

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
]
