"""Events: the log is read once a loop, and handed on to streams and listeners.

`feed.py` is the one reader; `stream.py` what `app.events` gives; `listening.py` what `app.on` registers; `hub.py` is
an app's side of them, `home.py` what an App has of it.
"""
