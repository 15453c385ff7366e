"""Who did what: whose name stands in the audit, a row of it, and bulk actions that outlive whoever began them."""
