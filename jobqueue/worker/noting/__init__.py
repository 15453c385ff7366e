"""What a worker notes in the database for those who look: never needed for running jobs, and paid for once a minute.

`counting.py` sends what `keeping/tally.py` has counted, `looking.py` how long the queues are; `clock.py` knows when a
minute of the database ends.
"""
