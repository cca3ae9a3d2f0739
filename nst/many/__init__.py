"""Many pictures: one after another in one process, or side by side on a cluster.

This room knows runs, Ray, and the flags that choose a cluster. It knows no other flag, and no step of a run.
"""
