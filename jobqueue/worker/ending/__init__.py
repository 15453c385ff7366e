"""Jobs go out: `finishing.py` writes outcomes in batches, `completing.py` inside the handler's own transaction,
`progress.py` what a handler reports before its end.
"""
