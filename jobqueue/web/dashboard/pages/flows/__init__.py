"""The pages of what is around jobs: bundles, limits, schedules, webhooks."""
