"""The frozen network: its architecture, its weights, and the activations of the layers that a loss asked for.

It knows a picture as a tensor. It knows no file of a picture's and no loss.
"""
