"""`bundles`: list, show, wait for and steer bundles. `verbs.py` is the surface."""
