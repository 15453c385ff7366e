"""All tasks, and one of them with the form that defers it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.errors import InvalidOption, InvalidSignature
from jobqueue.tasks.jobs import Jobs
from jobqueue.web.dashboard.acting.deferring import Entry, empty_entry
from jobqueue.web.dashboard.pages.sheet import missing, sheet, view_of
from jobqueue.web.dashboard.reading.tasks import find_task, read_task, read_tasks
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.showing.forms import filled, json_of
from jobqueue.web.dashboard.site import Site


async def tasks(site: Site, request: Request) -> Response:
    """The tasks of this app's code by name, then those that only the database knows."""
    find = request.query_params.get("find", "").strip()
    seen = await read_tasks(view_of(site, request), find)
    return sheet(site, request, "tasks.html", active="tasks", title="Tasks", seen=seen, find=find)


async def task(site: Site, request: Request) -> Response:
    """One task. `from`: the form has the arguments of this job. `as=json`: it has one field for all arguments."""
    return await task_page(site, request, request.path_params["name"])


async def task_page(site: Site, request: Request, name: str, entry: Entry | None = None) -> Response:
    """A task's page; `entry`: with what somebody has put into its form, and what is wrong with that."""
    view = view_of(site, request)
    seen = await read_task(view, name)
    if seen is None:
        return missing(site, request, "tasks", "task", name)
    again: str | None = None
    if entry is None:
        again = request.query_params.get("from")
        entry = await _entry(view, name, again, request.query_params.get("as") == "json")
    status = 200 if entry is None or entry.ready or not entry.options else 422
    return sheet(
        site, request, "task.html", active="tasks", title=seen.name, status=status, seen=seen, entry=entry, again=again
    )


async def _entry(view: View, name: str, again: str | None, whole: bool) -> Entry | None:
    """The form as it stands at first; None where there is none."""
    found = find_task(view, name)
    if found is None or not view.access.operate:
        return None
    try:
        entry = empty_entry(found)
    except InvalidSignature:
        return None
    args = await _args(view, again, name) if again else {}
    if whole:
        return replace(entry, whole=json_of(args) if args else "{}")
    return replace(entry, fields=filled(entry.fields, args))


async def _args(view: View, again: str, name: str) -> Mapping[str, Any]:
    """The arguments of a job of this task, for whoever may see them. Raises JobNotFound, InvalidOption."""
    job = await Jobs(view.site.app.looks).get(again)
    if not view.access.payloads or not view.access.sees(job.queue):
        return {}
    if job.task != name:
        raise InvalidOption("from", "is a job of another task")
    return job.args if view.site.redact is None else {}
