"""What is told of a job to people, in words: at the command line and in the dashboard the same.

`story.py` says how it stands and what keeps it from running, `lines.py` its place at a limit, `phases.py` in which
phase it is, `spans.py` times and numbers; `reading.py` reads what they need.
"""
