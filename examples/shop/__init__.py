"""A shop on FastAPI and SQLAlchemy, with its own tests: docs/testing.md shows them.

python -m jobqueue migrate up examples.shop.app:app           its tables, on JOBQUEUE_DSN
uvicorn examples.shop.site:site                               the site, on http://127.0.0.1:8000
python -m jobqueue worker examples.shop.app:app               runs its jobs
python -m pytest -c examples/shop/pytest.ini examples/shop    its tests
"""
