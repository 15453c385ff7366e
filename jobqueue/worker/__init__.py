"""Runs jobs: supervisor > claiming > (tasks.running) > finishing, and the services beside them.

`supervisor.py` is the door: it starts and stops everything in order, in a task of its own. A file is a stop on a
job's way; no stop calls back up, what a parent must know is a callable or an event it was given.
"""
