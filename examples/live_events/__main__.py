"""Serve the page on this machine only."""

import argparse

import uvicorn

from examples.live_events.site import site

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.live_events")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    uvicorn.run(site, host="127.0.0.1", port=parser.parse_args().port)
