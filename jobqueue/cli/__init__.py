"""`python -m jobqueue`: the command line. `main.py` is the door, one file a verb, `loading.py` finds `shop:app`."""
