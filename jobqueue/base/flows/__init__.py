"""What spans several jobs, as values: events, webhooks, bundles."""
