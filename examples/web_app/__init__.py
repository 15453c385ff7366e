"""A web shop in small, to show that a job commits with the data it belongs to.

python -m examples.web_app                                    the site, on http://127.0.0.1:8000
python -m jobqueue worker examples.web_app.app:app            runs its jobs

curl -d '{"customer": "ada@example.org", "cents": 1250}' http://127.0.0.1:8000/orders
curl http://127.0.0.1:8000/orders/1

http://127.0.0.1:8000/ops/ is the dashboard: who may come in, `docs/dashboard.md` tells. Here, browsers on this machine.
"""
