"""The terms that come with nst, and the objective that their settings make.

They know losses, activations and levels. They know no network and no optimiser.
"""
