"""Pictures through the network, whole or in bands of rows: the scanner, and the kernels, stages and plans below it.

It knows the network, and of losses only how statistics are added. It knows no level, no optimiser and no loop.
"""
