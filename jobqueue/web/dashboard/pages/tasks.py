"""All tasks, and one of them with the form that defers it."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from jobqueue.base.codec import loads
from jobqueue.base.errors import DuplicateJob, InvalidOption, InvalidPayload, InvalidSignature, KeyLocked
from jobqueue.tasks.options import check_id
from jobqueue.web.dashboard.acting.deferring import Entry, empty_entry, read_entry, send
from jobqueue.web.dashboard.acting.form import read_form, text_of
from jobqueue.web.dashboard.pages.sheet import led_to, missing, sheet, view_of
from jobqueue.web.dashboard.reading.job import read_payload
from jobqueue.web.dashboard.reading.tasks import find_task, read_task, read_tasks
from jobqueue.web.dashboard.reading.view import View
from jobqueue.web.dashboard.showing.fields import filled, json_of
from jobqueue.web.dashboard.site import Site

_HIDDEN = "is hidden there: put it in anew"


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
    again, status = None, 200 if entry is None else 422
    if entry is None:
        again = request.query_params.get("from")
        entry = await _entry(view, name, again, request.query_params.get("as") == "json")
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
    entry, args = await _again(view, entry, again) if again else (entry, {})
    return replace(entry, whole=json_of(args) if args else "{}") if whole else entry


async def _again(view: View, entry: Entry, again: str) -> tuple[Entry, Mapping[str, Any]]:
    """With the arguments of a job of this task, for whoever may see them; the look is in the audit.

    What is redacted has to be put in anew: what is shown in its place is not what the job had. Raises JobNotFound,
    InvalidOption.
    """
    if not view.access.payloads:
        return entry, {}
    id = check_id(again, "from")
    job = await view.jobs.get(id)
    if find_task(view, job.task) is not entry.task:
        raise InvalidOption("from", "is a job of another task")
    shown = loads((await read_payload(view, id, ["args"])).parts.get("args", "{}"))
    same = {name: value for name, value in job.args.items() if name in shown and value == shown[name]}
    hidden = job.args.keys() - same.keys()
    fields = filled(entry.fields, same)
    return replace(
        entry, fields=tuple(replace(each, error=_HIDDEN) if each.name in hidden else each for each in fields)
    ), same


async def defer(site: Site, request: Request) -> Response:
    """What the form of a task sends: a job is stored, with its row in the audit, or the form comes back with errors."""
    view, form = view_of(site, request), await read_form(request)
    name = text_of(form, "task")
    found = find_task(view, name)
    if found is None:
        return missing(site, request, "tasks", "task", name)
    entry = read_entry(found, form, view.access)
    if entry.ready:
        try:
            job = await send(view, entry)
        except (InvalidPayload, InvalidOption, DuplicateJob, KeyLocked) as error:
            entry = entry.refused(error)
        else:
            return led_to(request, f"/jobs/{job.id}")
    return await task_page(site, request, found.name, entry)
