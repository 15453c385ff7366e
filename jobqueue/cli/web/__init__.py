"""`web`: serves the dashboard."""
