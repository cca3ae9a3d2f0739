"""Pictures as files and as tensors: decoding, colours, sizes, and files that are written whole or not at all.

The folder knows pictures, and trusts no file. It knows no network and no loss.
"""
