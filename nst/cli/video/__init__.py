"""`nst video`: the command that paints clips. It knows no motion and no codec."""
