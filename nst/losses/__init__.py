"""The losses: mathematics, additive statistics, style distances, terms, and the objective, their weighted sum.

They know activations and levels as tensors. They know no network, no file and no optimiser.
"""
