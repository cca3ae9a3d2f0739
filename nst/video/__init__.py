"""Clips: what knows of frames, motion and time. It paints frame by frame, and knows no layers and no command line."""
