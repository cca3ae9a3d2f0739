"""Steering: changes of settings while a run goes on, made at the border of two steps, and made again in a replay.

Unlike the callbacks, which only watch, it changes the picture. It knows no page and no command line.
"""
