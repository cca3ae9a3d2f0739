"""The inputs of a picture: styles, masks, regions and levels, made from settings and files.

The folder knows pictures, and returns levels of tensors. It knows no network, no loss and no optimiser.
"""
