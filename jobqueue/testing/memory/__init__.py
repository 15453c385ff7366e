"""Jobs in memory, for `app.testing("record")` and `app.testing("inline")`: everything as in a worker but the database.

`sender.py` takes in jobs, parts of bundles and questions; `shelf.py` keeps jobs and hands them out in the order in
which workers would take them, `kept.py` is one of them; `running.py` runs one attempt and does what its outcome says.
`bundles.py` and `members.py` are bundles, `phases.py` what a job keeps of its phases, `schedules.py` planned times, and
`clock.py` the time by which all of this is due: it stands still until a test moves it on.
"""
