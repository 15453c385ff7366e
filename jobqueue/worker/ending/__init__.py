"""Jobs go out: `finishing.py` writes outcomes in batches, `completing.py` inside the handler's own transaction.
`last_words.py` has written before what a handler has said until then: `progress.py` its reports, `recording.py` its
phases. `folding.py` tells bundles and jobs that wait, `lines.py` the log.
"""
