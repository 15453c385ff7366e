"""`bench`: measures how fast it is here, and shows it as a table that grows, as JSON or as Markdown."""
