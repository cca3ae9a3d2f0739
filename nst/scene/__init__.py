"""What goes into a picture: styles, masks, regions and levels, from settings and files.

It knows pictures. It knows no network, no loss and no optimiser; what it hands on are levels of tensors.
"""
