"""The only room that talks to PostgreSQL: it alone imports asyncpg.

`pool.py` opens and closes, `statements.py` finds the SQL of `schema/statements`, `migrate.py` applies
`schema/migrations`; each other module is one topic, with a statements file of the same name. Rows become
frozen dataclasses at this door. Nothing here decides when a statement runs.
"""
