"""The sample paintings of our own, each painted by a script: strokes, panes, dots and stones from a seed.

They know numpy, scipy and Pillow. They know no picture of anybody's, and nothing of the package.
"""
