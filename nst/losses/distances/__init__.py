"""The style distances, each in a file of its own; every file of this folder is imported and its distance can be chosen.

They know the mathematics and no picture, no network and no term.
"""

from importlib import import_module
from pkgutil import iter_modules

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
