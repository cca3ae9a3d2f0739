"""`nst studio`, and the settings of the command line as the studio sees them. It knows no page and no process."""
