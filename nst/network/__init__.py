"""The frozen feature extractor: its architecture, its weights, and the activations of the requested layers.

The folder knows a picture as a tensor. It knows no picture file and no loss.
"""
