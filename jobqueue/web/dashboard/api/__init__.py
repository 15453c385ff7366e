"""The JSON face: what the pages show and do, for programs.

`table.py` has a row for each thing that can be asked: a reader or a verb. What it takes is read off its signature
(`parameters.py`), so that a row is one line; `routes.py` answers by it, `openapi.py` describes it.
"""
