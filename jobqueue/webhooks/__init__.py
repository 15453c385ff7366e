"""Webhooks: events are posted to receivers outside, each at least once, signed as Standard Webhooks says.

`hooks.py` is `app.webhooks`; `relay.py` reads the log and makes a job of each event that a webhook is to hear of;
`sending.py` is the task of these jobs; `signing.py` the secrets; `dialling.py` decides which addresses may be called.
"""
