"""A site that shows in the browser what becomes of its jobs, as it happens: `python -m examples.live_events`."""
