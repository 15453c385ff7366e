"""What is asked of a worker on the command line."""

from dataclasses import dataclass

from jobqueue.cli.terminal.log_choices import LogFormat, LogLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """None where the App's settings decide. `drain_timeout` in seconds."""

    queues: str | None = None
    concurrency: int | None = None
    drain_timeout: float | None = None
    burst: bool = False
    processes: int = 1
    log_format: LogFormat | None = None
    log_level: LogLevel | None = None
    http: str | None = None

    @property
    def options(self) -> list[str]:
        """The same wishes in the words of the command line, but for `http`, which each process has its own of."""
        wished = {
            "queues": self.queues, "concurrency": self.concurrency, "drain-timeout": self.drain_timeout,
            "processes": self.processes, "log-format": self.log_format, "log-level": self.log_level,
        }  # fmt: skip
        words = [f"--{name}={value}" for name, value in wished.items() if value is not None]
        return [*words, "--burst"] if self.burst else words

    @property
    def entries(self) -> list[str] | None:
        """The queues one by one."""
        return None if self.queues is None else [entry.strip() for entry in self.queues.split(",") if entry.strip()]
