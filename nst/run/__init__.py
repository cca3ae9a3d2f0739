"""A run around the optimisation: callbacks, records, checkpoints, folders, signals, and the Trainer's flags.

Its callbacks only watch the LightningModule, and may be removed without changing a pixel. It knows no command line.
"""
