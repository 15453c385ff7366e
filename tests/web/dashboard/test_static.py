"""The files that pages carry: what they are, and how they are served."""

import hashlib
import json

from tests.support.programs.vendor import HERE, PACKAGES


def test_what_others_wrote_is_what_the_lock_says() -> None:
    """Vendored files are unchanged, none is missing, none is there that nobody has named."""
    lock = json.loads((HERE / "vendor.lock").read_text())
    marks = {name: mark for package in lock for name, mark in package["files"].items()}
    there = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in HERE.iterdir() if path.suffix != ".lock"
    }
    assert marks == there
    assert [(each["name"], each["version"], each["integrity"]) for each in PACKAGES] == [
        (each["name"], each["version"], each["integrity"]) for each in lock
    ]
