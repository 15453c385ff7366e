"""Durable steps of one run: what was done before is found again, what is done now is recorded, and sleeps end the run.

`phases.py` tells the story of a run; `journal.py` says what it needs of the store, `result.py` turns results into JSON
and back, `parking.py` puts the job to sleep, `memory.py` keeps all of it without a database.
"""
