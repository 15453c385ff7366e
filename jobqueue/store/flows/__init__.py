"""What spans several jobs: the log is read, webhooks are kept, bundles are added up."""
