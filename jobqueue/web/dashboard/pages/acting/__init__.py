"""Where forms lead (`act.py`), bulk actions that go on in the background, and the audit of all of it."""
