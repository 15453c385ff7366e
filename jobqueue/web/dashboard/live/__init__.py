"""What is shown while somebody watches: `looker.py` looks once for all, `stream.py` tells browsers what has changed."""
