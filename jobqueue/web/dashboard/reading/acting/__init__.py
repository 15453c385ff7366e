"""Models of what was done, and of what is being done in the background: the audit, bulk actions."""
