"""The verb `worker`: `run.py` for one process, `processes.py` and `child.py` for many, `stopping.py` for signals."""
