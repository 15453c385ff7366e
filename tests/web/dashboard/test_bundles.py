"""Bundles in the dashboard: the list, one with its graph, what is done to it."""

from jobqueue import App
from jobqueue.web import Access
from tests.support.jobs.working import new_app
from tests.web.dashboard.visiting import visiting

ODD = '<script>alert("1")</script>'


def app_with_task(database: str) -> App:
    """An App with a task of an odd name."""
    app = new_app(database)

    @app.task(name=ODD)
    async def odd(number: int) -> None: ...

    return app


async def test_a_bundle_is_shown_with_its_graph(database: str) -> None:
    """A node for each job that comes after another, which leads to its page; names are escaped, buttons lead on."""
    async with app_with_task(database) as app, visiting(app) as client:
        odd = app.registry.find(ODD)
        assert odd is not None
        async with app.bundle(f"import {ODD}") as bundle:
            first = bundle.add(odd.job(1))
            last = bundle.add(odd.job(2), after=[first])
            bundle.add(odd.job(3))
            bundle.add(odd.job(4))
        listed = await client.get("/bundles?unfinished=1")
        assert f'href="/bundles/{bundle.id}"' in listed.text
        page = await client.get(f"/bundles/{bundle.id}")
        assert 200 == page.status_code
        told = (await client.get(f"/api/v1/bundles/{bundle.id}")).json()
        assert [str(first.id), str(last.id)] == [each["id"] for each in told["jobs"]]
        assert [{"task": ODD, "state": "ready", "jobs": 2, "callback": False}] == told["unlinked"]
        for job in (first, last):
            assert f'href="/jobs/{job.id}"' in page.text
        assert "&lt;script&gt;" in page.text
        assert ODD not in page.text + listed.text
        asked = await client.get(f"/preview/bundles/cancel?id={bundle.id}")
        assert "Cancel this bundle" in asked.text
        await client.post("/act/bundles/cancel", data={"id": str(bundle.id)})
        assert (await app.bundles.get(bundle.id)).cancel_asked is not None


async def test_who_sees_some_queues_sees_no_bundle(database: str) -> None:
    """Its jobs may be in any."""
    async with app_with_task(database) as app:
        odd = app.registry.find(ODD)
        assert odd is not None
        async with app.bundle("nightly") as bundle:
            bundle.add(odd.job(1))
        async with visiting(app, Access("eve", operate=True, queues=["default"])) as client:
            assert "nightly" not in (await client.get("/bundles")).text
            assert 404 == (await client.get(f"/bundles/{bundle.id}")).status_code
            assert 400 == (await client.post("/act/bundles/cancel", data={"id": str(bundle.id)})).status_code
        assert (await app.bundles.get(bundle.id)).cancel_asked is None


async def test_what_is_no_bundle_is_said_to_be_none(database: str) -> None:
    """An id of none, and what is no id."""
    async with app_with_task(database) as app, visiting(app) as client:
        assert 404 == (await client.get("/bundles/01890000-0000-7000-8000-000000000000")).status_code
        assert 400 == (await client.get("/bundles/17")).status_code
        assert "app.bundle(" in (await client.get("/bundles")).text
