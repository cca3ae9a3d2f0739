"""The optimised image: the LightningModule, its targets and starts, and what keeps its steps from doing harm.

It knows all of the above, and `loop` alone knows the inside of Lightning's loop. It reads no file and writes none.
"""
