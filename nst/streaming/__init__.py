"""Runs the network on pictures, whole or in bands of rows: the scanner, and the kernels, stages and plans that it uses.

It knows the network, how statistics are added, and of an optimiser only its settings, to count the memory of its state.
It knows no level, no step of an optimiser and no loop.
"""
