"""A run around the optimisation: callbacks, records, checkpoints, folders, signals and the Trainer's flags.

It only watches the LightningModule, and may be removed without changing a pixel. It knows no command line.
"""
