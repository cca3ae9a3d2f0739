"""Pictures as files and as tensors: decoding, colours, sizes, and files that are written whole or not at all.

It knows what a picture is, and trusts no file. It knows no network and no loss.
"""
