"""A run around the optimisation: callbacks, records, checkpoints, folders, signals and the Trainer's flags.

It only looks at what the module does, and may be taken away without changing a pixel. It knows no command line.
"""
