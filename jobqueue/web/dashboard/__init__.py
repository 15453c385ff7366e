"""The dashboard: pages that show what the queue does, and let those who may steer it.

`create.py` is the door: `create_app(app, authorize=fn)`, an ASGI app to mount or to serve. A request comes in through
`access/` (who is this, may they), is read by `reading/` (models, what both faces show), drawn by `pages/` with
`showing/` and `templates/`, or answered as JSON by `api/`. `acting/` changes things, and says who did it. `live/` looks
at the database once for all who watch.

Needs the extra: pip install "jobqueue[web]". Whoever has no `payloads` sees no argument, result or error message.
"""
