"""The verbs about jobs: `defer`, and `jobs list | show | wait | cancel | retry | ...`.

`verbs.py` and `steering_verbs.py` have their options, `look.py`, `story.py`, `steering.py` and `defer.py` what they do.
"""
