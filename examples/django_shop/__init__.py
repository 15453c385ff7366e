"""A shop on Django with synchronous views, with its own tests: see docs/testing.md.

python -m jobqueue migrate up examples.django_shop.queue:app             the tables of its jobs, on JOBQUEUE_DSN
python -m django migrate --run-syncdb --settings examples.django_shop.settings
python -m django runserver --settings examples.django_shop.settings      the site, on http://127.0.0.1:8000
python -m jobqueue worker examples.django_shop.queue:app                 runs its jobs
python -m pytest -c examples/django_shop/pytest.ini examples/django_shop its tests
"""
