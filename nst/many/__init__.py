"""Many pictures: one after another in one process, or side by side on a cluster.

This room knows settings that can be made into a run, runs, and Ray. It knows no command line, and no step of a run.
"""
