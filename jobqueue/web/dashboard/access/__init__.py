"""Who may see and do what: `access.py` has the values, `guard.py` asks on each request, before anything else."""
