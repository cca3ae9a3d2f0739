"""`nst env`: what this machine and this installation are. It knows no picture and no setting of a run."""
