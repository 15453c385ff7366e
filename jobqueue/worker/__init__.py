"""Runs jobs: supervisor > claiming > (tasks.run) > ending, and the services beside them.

`workplace.py` is the door: it makes what a worker of an app stands on. `supervisor.py` starts and stops everything in
order, in a task of its own. A file is a stop on a job's way; no stop calls back up, what a parent must know is a
callable or an event it was given.
"""
