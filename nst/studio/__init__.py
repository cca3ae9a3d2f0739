"""The studio: a page in the browser on which pictures are made, watched while they grow, and steered.

It knows Gradio, processes and what people ask for. It knows no command line, which is given to it, and no mathematics.
"""
