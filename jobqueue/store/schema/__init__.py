"""The SQL files of the top-level folder `schema/`: `statements.py` finds one, `migrate.py` applies migrations."""
