"""What looks at many jobs give: history as numbers over time, and what is searched for."""
