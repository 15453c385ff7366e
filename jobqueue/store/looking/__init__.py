"""Stored jobs are looked at: one by its id, or until it ends; lists of them; counts and rates."""
