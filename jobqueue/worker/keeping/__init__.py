"""Claims are kept while their worker lives, and taken back when it does not.

`holds.py` is the ledger of what this worker has claimed, `tally.py` counts it. `heartbeat.py` renews the claims from a
thread (`beside.py`), `watchdog.py` tells who blocks the loop, `board.py` shows it to others, `rescue.py` takes back the
claims of the dead.
"""
