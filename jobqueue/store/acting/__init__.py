"""Who did what: the rows of the audit, written in the transaction that makes the change, and read again."""
