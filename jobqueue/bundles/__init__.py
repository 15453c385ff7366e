"""Bundles: jobs that end together.

`building.py` is what `app.bundle(...)` gives, `bundles.py` what `app.bundles` is, `member.py` what a running member has
of its bundle; `storing.py` stores a part of one, all or nothing. How ends are counted: `worker/ending/folding.py`.
"""
