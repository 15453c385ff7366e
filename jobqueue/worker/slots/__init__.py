"""Jobs run: `slots.py` bounds how many at once, `batches.py` lets jobs share a call, `stuck.py` names the undying."""
