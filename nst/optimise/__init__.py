"""The optimised image: the LightningModule, its targets and starting pictures, its pace, and a guard on its steps.

It knows the pictures, the scene, the network, the losses and the scanner; `loop` alone knows the inside of Lightning's
loop. It reads no file and writes none.
"""
