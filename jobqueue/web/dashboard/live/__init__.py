"""What is shown while somebody watches: `looker.py` looks once for all, `pages/live.py` tells browsers."""
