"""How handlers are stuck: as workers write it into their rows, and whoever looks reads it."""

BLOCKS, ASKED, WAITS = "blocks the loop", "asked to end", "waits for other jobs"
"""WAITS: all slots of its worker wait for jobs that want a slot; told of one of them for all."""
