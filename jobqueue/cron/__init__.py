"""Schedules: jobs at planned times, each exactly once in a fleet without a leader.

`template.py` keeps a job without its moment, `planning.py` says which times are fired and which left out, `firing.py`
does it, in every worker, `declaring.py` stores what the code says, `schedules.py` is `app.schedules`.
"""
