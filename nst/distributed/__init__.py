"""Several processes, on one machine or on many, that make a picture together.

This room knows torch.distributed and how Lightning starts processes, and no layer, loss or picture.
"""
