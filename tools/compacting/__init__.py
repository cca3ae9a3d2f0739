"""What tools/compact.py is made of."""
