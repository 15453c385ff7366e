"""The ground floor: values and rules, no I/O.

Jobs, outcomes, errors, settings, retry policies, the strict JSON codec and the table of log events.
Every other room may look down here; this room looks at nobody. Start with `job.py`.
"""
