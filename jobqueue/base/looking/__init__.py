"""What looks at many jobs give: history as numbers over time, what is searched for, and how handlers are stuck."""
