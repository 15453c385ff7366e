"""A store of an agent's memories: one large payload and several index rows each. `python -m examples.agent_store`

A payload stands for what lives in an object store or another database, so the two writes cannot share a transaction,
and there is no foreign key between them. What may go wrong, and what is done about it:

- The payload is written first, and is durable before anything points to it. All index rows follow in one transaction,
  together with the job that digests the memory. A failure between the two leaves an orphan, which nobody can find and
  a collector removes; it never leaves an index row that points nowhere, or half an index.
- Many memories are saved at once, but at most 25, by `bounded_map`: the first failure cancels the rest, a cancelled
  caller cancels all, and when the call is over nothing runs that might still commit.
- The collector leaves young orphans alone, for their index may be under way. If it comes too early nevertheless, the
  index transaction finds its payload gone and fails.

`store.py` is the store, `app.py` its jobs, `__main__.py` shows what remains after a failure and after a cancellation.
"""
