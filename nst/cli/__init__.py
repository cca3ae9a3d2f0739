"""The command line: settings, commands and presets, and errors in one line.

It may know every other folder. It is known by no module but `nst.api`, whose `stylize` takes the same settings.
"""
