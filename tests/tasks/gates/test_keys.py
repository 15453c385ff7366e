"""Keys of limits: which are refused where they are written, and what they come to in a job."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, RootModel
from typing_extensions import TypedDict

from jobqueue.base.errors import InvalidOption, InvalidPayload
from jobqueue.base.flows.limit import Limit
from jobqueue.tasks.router import TaskHome
from jobqueue.tasks.task import Task
from tests.tasks.recording import Recorder, open_home

ID = UUID("01a20469-ed06-73fd-819c-8942033b9223")


class Plan(str, Enum):  # noqa: UP042 - people have such ones, which say `Plan.FREE` as text
    FREE = "free"


@dataclass
class Tenant:
    name: str
    number: int = 7
    weight: float = 1.0
    tags: list[str] | None = None


class Mail(BaseModel):
    to: str
    tenant: Tenant
    sender: Optional["Mail"] = None
    plan: Plan = Plan.FREE
    region: str = Field(default="eu", alias="regionCode")
    id: UUID | None = None
    hidden: str = Field(default="x", exclude=True)
    price: Decimal = Decimal(1)


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: str


class Row(TypedDict):
    customer: str
    shop: NotRequired[str]


class Rows(RootModel[Row]): ...


class Cat(BaseModel):
    kind: Literal["cat"]
    tenant: str


class Dog(BaseModel):
    kind: Literal["dog"]
    owner: str


def post(mail: Mail) -> None: ...
def row(row: Row) -> None: ...
def rows(rows: Rows) -> None: ...
def anything(event: Any) -> None: ...
def mapped(event: dict[str, Any]) -> None: ...
def counted(event: dict[str, int]) -> None: ...
def opened(event: Open) -> None: ...
def pet(pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> None: ...
def written(x: Annotated[float, PlainSerializer(lambda x: f"{x}")]) -> None: ...
def several(tenant: str = "main", *, count: int = 5, mail: Mail | None = None) -> None: ...
def nothing() -> None: ...


def limited(function: Callable[..., Any], key: Any) -> Task[Any, Any]:
    """A task with one limit by this key."""
    return open_home(Recorder()).task(limit=Limit(3, key=key, name="t"))(function)


def key_of(task: Task[Any, Any], *args: Any, **named: Any) -> str | None:
    """The key that a job with these arguments has; None without one."""
    gates = task.job(*args, **named).gates
    return gates[0].partition("\n")[2] if gates else None


MAIL = Mail(to="a@b.c", tenant=Tenant("acme"))


@pytest.mark.parametrize(
    ("function", "path", "args", "key"),
    [
        (post, "mail.tenant.name", (MAIL,), "acme"),
        (post, "mail.tenant.number", (MAIL,), "7"),
        (post, "mail.sender.tenant.name", (MAIL,), None),
        (post, "mail.sender.tenant.name", (Mail(to="x", tenant=Tenant("x"), sender=MAIL),), "acme"),
        (post, "mail.plan", (MAIL,), "free"),
        (post, "mail.regionCode", (Mail(to="x", tenant=Tenant("x"), regionCode="us"),), "us"),
        (post, "mail.id", (MAIL,), None),
        (post, "mail.id", (Mail(to="x", tenant=Tenant("x"), id=ID),), str(ID)),
        (post, "mail.price", (MAIL,), "1"),
        (row, "row.customer", ({"customer": "c"},), "c"),
        (row, "row.shop", ({"customer": "c"},), None),
        (row, "row.shop", ({"customer": "c", "shop": "s"},), "s"),
        (rows, "rows.customer", (Rows({"customer": "c"}),), "c"),
        (anything, "event", ("x",), "x"),
        (anything, "event.a.b", ({"a": {"b": 5}},), "5"),
        (anything, "event.a.b", ({"a": None},), None),
        (mapped, "event.tenant", ({"tenant": "acme"},), "acme"),
        (counted, "event.tenant", ({"tenant": 12345678901234567890},), "12345678901234567890"),
        (opened, "event.new", (Open.model_validate({"known": "x", "new": "y"}),), "y"),
        (pet, "pet.tenant", (Cat(kind="cat", tenant="c"),), "c"),
        (written, "x", (1.5,), "1.5"),
        (several, "tenant", (), "main"),
        (several, "count", ("a",), "5"),
        (several, "mail.tenant.name", (), None),
        (several, "tenant", ("x",), "x"),
    ],
)  # fmt: skip
def test_a_path_leads_to_a_key(function: Any, path: str, args: tuple[Any, ...], key: str | None) -> None:
    """It goes through objects as they are written in JSON; what is left out has its default, null is no key."""
    assert key == key_of(limited(function, path), *args)


@pytest.mark.parametrize(
    ("function", "path", "fault"),
    [
        (post, "post.tenant", "'post.tenant': the task has no 'post', but mail$"),
        (post, "mail.tennant", "'mail' has no 'tennant', but to, tenant, .*; did you mean 'tenant'"),
        (post, "mail.tenant.title", "'mail.tenant' has no 'title', but name, number, weight, tags$"),
        (post, "mail.region", "'mail' has no 'region', but .*did you mean 'regionCode'"),
        (post, "mail.hidden", "'mail' has no 'hidden'"),
        (post, "mail.to.x", "'mail.to' is text, which has no names"),
        (post, "mail", "'mail' is an object; a key is text, a whole number or a UUID"),
        (post, "mail.tenant.weight", "'mail.tenant.weight' is a float"),
        (post, "mail.tenant.tags", "is a list"),
        (row, "row.seller", "'row' has no 'seller', but customer, shop$"),
        (pet, "pet.tennant", "'pet' has no 'tennant', but kind, tenant, kind, owner; did you mean 'tenant'"),
        (counted, "event.a.b", "'event.a' is a whole number, which has no names"),
        (nothing, "tenant", "the task takes no arguments"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_where_it_is_written(function: Any, path: str, fault: str) -> None:
    """As far as types are known a path is checked at the decorator; the error says which names there are."""
    for option, said in (("limit", {"limit": Limit(3, key=path)}), ("fair", {"fair": path})):
        home: Any = TaskHome()
        with pytest.raises(InvalidOption, match=fault) as caught:
            home.task(**said)(function)
        assert option == caught.value.option
        assert [] == list(home.registry)


SECRET = "secret"


@pytest.mark.parametrize(
    ("function", "path", "args", "fault"),
    [
        (anything, "event", ({"secret": SECRET},), "must be text, a whole number, a UUID or None, not dict"),
        (anything, "event", (SECRET * 40,), "at most 200 characters"),
        (anything, "event", (True,), "not bool"),
        (anything, "event.tenant", (SECRET,), "is not in an object"),
        (anything, "event.tenant", ({"secret": SECRET},), "is missing"),
        (mapped, "event.tenant", ({"tenant": 1.5},), "not float"),
        (pet, "pet.tenant", (Dog(kind="dog", owner=SECRET),), "is missing"),
    ],
)
def test_a_value_that_is_no_key_fails_the_defer(function: Any, path: str, args: tuple[Any, ...], fault: str) -> None:
    """Where types tell nothing, whoever defers is told; the value is not."""
    task = limited(function, path)
    with pytest.raises(InvalidPayload, match=fault) as caught:
        task.job(*args)
    assert (path, "key") == (caught.value.path, caught.value.kind)
    assert SECRET not in str(caught.value)


def of_mail(mail: Mail) -> str | None:
    return mail.tenant.name if mail.sender is None else None


def of_several(tenant: str, *, count: int, mail: Mail | None) -> str:
    return f"{tenant} {count} {mail is None}"


@pytest.mark.parametrize(
    ("function", "key", "args", "expected"),
    [
        (post, of_mail, (MAIL,), "acme"),
        (post, of_mail, (Mail(to="x", tenant=Tenant("x"), sender=MAIL),), None),
        (post, lambda it: it.tenant.number, (MAIL,), "7"),
        (post, lambda *args: len(args), (MAIL,), "1"),
        (anything, str, ("x",), "x"),
        (several, of_several, (), "main 5 True"),
        (several, of_several, ("a",), "a 5 True"),
        (nothing, lambda: "one", (), "one"),
    ],
)
def test_a_function_gets_the_arguments_as_the_task_would(
    function: Any, key: Any, args: tuple[Any, ...], expected: str | None
) -> None:
    """Decoded, in their order, with their defaults; it need not call them as the task does."""
    assert expected == key_of(limited(function, key), *args)


@pytest.mark.parametrize(
    ("function", "key"), [(post, lambda: "x"), (post, lambda a, b: a), (several, lambda tenant: tenant)]
)
def test_a_function_that_takes_other_arguments_is_refused_where_it_is_written(function: Any, key: Any) -> None:
    """What could only fail in a job is refused at the decorator, which names the arguments there are."""
    with pytest.raises(InvalidOption, match=r"limit: .* must take the arguments of the task: \((mail|tenant, count)"):
        limited(function, key)


def test_what_a_function_raises_is_the_callers() -> None:
    """A function that fails does so in the defer, as itself; what it gives is checked, and not quoted."""

    def fails(mail: Mail) -> str:
        raise LookupError(mail.to)

    with pytest.raises(LookupError, match=r"a@b\.c"):
        limited(post, fails).job(MAIL)
    with pytest.raises(InvalidPayload, match="the key of a limit must be text") as caught:
        limited(post, lambda mail: [SECRET]).job(MAIL)
    assert SECRET not in str(caught.value)


async def all_of(docs: list[Mail]) -> None: ...


def test_a_batch_task_has_the_key_of_one_item() -> None:
    """Each item is a job of its own, so the path leads through the name of the list, the function gets the item."""
    home = open_home(Recorder())

    @home.batch_task(limit=[Limit(3, key="docs.tenant.name", name="a"), Limit(2, key=of_mail, name="b")])
    async def index(docs: list[Mail]) -> None: ...

    assert ("a\nacme", "b\nacme") == index.job(MAIL).gates
    with pytest.raises(InvalidOption, match="'docs' has no 'x'"):
        home.batch_task(limit=Limit(1, key="docs.x"), name="other")(all_of)


def test_types_that_are_not_known_yet_are_looked_at_later() -> None:
    """Names that are written further down are known when the app opens, or at the first defer."""
    home = open_home(Recorder())
    late: Any = home.task(limit=Limit(1, key="later.tenant"))(comes_early)
    wrong: Any = home.task(limit=Limit(1, key="later.other"), name="wrong")(comes_early)
    globals()["Later"] = Mail
    try:
        with pytest.raises(InvalidOption, match="'later' has no 'other'"):
            wrong.resolve()
        with pytest.raises(InvalidOption, match=r"'later\.tenant' is an object"):
            late.job(MAIL)
    finally:
        del globals()["Later"]


def comes_early(later: "Later") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - not yet
