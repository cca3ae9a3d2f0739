"""The command line: settings, commands and presets, and errors in one line.

It may know everything below. No module but `nst.stylize`, which takes the same settings, knows it.
"""
