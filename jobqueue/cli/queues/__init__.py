"""The verbs about queues, `queues list | pause | resume | keep`, and `prune`. `verbs.py` has their options."""
