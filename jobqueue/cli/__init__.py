"""The command line: `python -m jobqueue VERB`, also installed as `jobqueue`.

`main.py` is its surface: verbs, options, exit codes. What a verb does stands in the file of its name (`worker.py`, for
many workers `processes.py`, `schema.py` for `migrate`, `jobs.py`, `top.py`, ...), imported when it is called, so that
`--help` comes at once. Groups of verbs have theirs in `verbs.py` of their rooms, see `groups.py`.
`loading.py` finds the user's App, `place.py` the database, `failures.py` turns every error into a line or a traceback.
Only this room imports typer and rich.
"""
