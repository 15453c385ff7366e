"""The verbs about webhooks. `verbs.py` has their options, `look.py` shows, `change.py` changes."""
