"""A durable job queue for Python asyncio on PostgreSQL."""
