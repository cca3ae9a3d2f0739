"""The machine that a run is on: its clock, its memory, its fastest precision, and the libraries' messages.

The folder knows numbers and devices. It knows no picture, no user's file and no network.
"""
