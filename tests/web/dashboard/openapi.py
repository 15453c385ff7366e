"""Writes the description of the JSON API into the repository: python -m tests.web.dashboard.openapi"""

from pathlib import Path

SNAPSHOT = Path(__file__).with_name("openapi.json")

if __name__ == "__main__":
    from jobqueue.web.dashboard.api.openapi import openapi

    SNAPSHOT.write_bytes(openapi())
