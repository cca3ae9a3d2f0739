"""The machine that a run is on: its clock, its memory, the precision that it is fast in, and the libraries' noise.

It knows numbers and devices. It knows no picture, no file of a user's and no network.
"""
