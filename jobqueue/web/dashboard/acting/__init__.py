"""What may be done. `jobs.py` changes jobs, those selected or all that match, after a preview; `verbs.py` all else.

Each verb goes through the App, with the user's name, so that what was done and the audit of it commit together.
"""
