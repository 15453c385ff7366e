"""An index of Python's standard library, made by two worker processes: `python -m examples.code_index`.

`app.py` is what you would write, `measure.py` the work itself, `__main__.py` starts it all, watches and checks.
"""
