"""What a worker shows over HTTP: metrics for Prometheus, liveness and readiness.

`health.py` is the door: `health_app(work)`, an ASGI app to mount or to serve. `serving.py` serves it in a thread of its
own, for `worker --http`; `address.py` reads and takes the address; `metrics.py` turns counts into Prometheus' text,
`depths.py` asks the database how long the queues are.

Needs the extra: pip install "jobqueue[web]". Shows names of tasks and queues, numbers and versions; never a payload,
a connection string, or the text of an error.
"""
