"""Which processes of this machine live: a death is only told if it is certain."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jobqueue.worker.keeping.machine import born, is_gone, this_machine

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")


@contextmanager
def a_process() -> Iterator[subprocess.Popen[bytes]]:
    """Another process, with a name that is hard to read past, which waits for its end."""
    code = "import sys; open('/proc/self/comm', 'w').write('a) Z (b 1'); print(flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_the_machine_is_one_boot_and_namespace() -> None:
    """Two processes side by side name the same machine; it says more than a host name, which may come again."""
    code = "from jobqueue.worker.keeping.machine import this_machine; print(this_machine())"
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert this_machine() == other
    assert "pid:[" in other


def test_a_living_process_is_not_gone() -> None:
    """Ourselves, and a child whose name looks like a dead one's entry, live, and their birth stays the same."""
    with a_process() as process:
        first = born(process.pid)
        assert first is not None
        assert first.isdigit()
        assert first == born(process.pid)
        assert not is_gone(process.pid, first)
    ours = born(os.getpid())
    assert ours is not None
    assert not is_gone(os.getpid(), ours)


def test_a_killed_process_is_gone_even_unburied() -> None:
    """A process that was killed is gone at once, also as long as its parent has not asked for it."""
    with a_process() as process:
        when = born(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(process.pid, when)
        process.wait()
        assert is_gone(process.pid, when)
        assert born(process.pid) is None


def test_a_later_process_of_the_same_number_is_another() -> None:
    """Who was born at another time is not who was asked for."""
    ours = born(os.getpid())
    assert is_gone(os.getpid(), f"{ours}0")


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """This process cannot open anything for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_cannot_look_declares_nobody_dead() -> None:
    """S4-66: a worker that has run out of descriptors takes neither its neighbours nor itself for dead."""
    ours, parent = born(os.getpid()), born(os.getppid())
    with no_descriptors_left():
        seen = born(os.getpid())
        found = [is_gone(os.getpid(), ours), is_gone(os.getppid(), parent), this_machine()]
    assert [False, False, None] == found
    assert seen is None


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_a_hidden_process_is_not_gone(error: type[OSError], monkeypatch: pytest.MonkeyPatch) -> None:
    """S4-66: where /proc hides the processes of other users (hidepid, ProtectProc), they are not taken for dead."""

    def hidden(*given: object, **named: object) -> str:
        raise error

    monkeypatch.setattr("pathlib.Path.read_text", hidden)
    assert not is_gone(os.getppid(), "1")
    assert not is_gone(1, "1")
