"""An order that takes days: reserve, charge, wait for an approval, sleep, ship; a webhook tells of its end.

export JOBQUEUE_WEBHOOK_KEY="a random text of 32 characters or more"      the same in each terminal
python -m examples.order_flow receive                      prints each order that has ended, when its webhook comes
python -m jobqueue worker examples.order_flow.app:app      runs orders; kill it, start another: they go on
python -m examples.order_flow place                        places an order, and prints its id
python -m examples.order_flow show ID                      what it has done so far
python -m examples.order_flow approve ID                   it waits for that, and holds no slot meanwhile

Whoever is killed, and when: there is one reservation, one charge and one parcel. Each in another way, see `app.py`.
An order that nobody approves in time (`place --patience 10`) gives the money and the stock back, and is cancelled.
"""
