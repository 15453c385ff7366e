"""Jobs come in: `claimer.py` claims for free slots, `queues.py` says from where, `staging.py` makes due jobs ready,
`wakeup.py` turns hints into "look now".
"""
