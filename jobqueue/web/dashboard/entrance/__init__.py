"""What stands where a page cannot be shown: the log-in with a token (`login.py`), and what went wrong (`faults.py`)."""
