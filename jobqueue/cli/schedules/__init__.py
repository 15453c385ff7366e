"""`schedules`: look at jobs that come at planned times, and steer them. `verbs.py` is the surface."""
