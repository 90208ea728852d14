"""What the local system says while it works."""

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["ConsoleReporter", "Reporter", "SilentReporter"]


class Reporter(Protocol):
    """Takes news for a person."""

    def say(self, text: str) -> None:
        """Something went as it should."""

    def warn(self, text: str) -> None:
        """Something did not, and the person should know now."""

    def expect_bytes(self, count: int) -> None:
        """So many bytes are going to be downloaded."""

    def got_bytes(self, count: int) -> None:
        """So many of them have arrived; fewer than none when some are to be fetched again."""


class SilentReporter:
    """Says nothing: for whoever looks at the results alone."""

    def say(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""

    def expect_bytes(self, count: int) -> None:
        """Nothing."""

    def got_bytes(self, count: int) -> None:
        """Nothing."""


class ConsoleReporter:
    """Writes to standard error: a progress bar where somebody looks, a line now and then elsewhere."""

    LINE_EVERY = 0.25
    """Part of the download between two lines where there is no bar."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._progress: Progress | None = None
        self._expected = self._arrived = 0
        self._told = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()

    def say(self, text: str) -> None:
        """A plain line."""
        self._console.print(f"consuma: {text}", markup=False)

    def warn(self, text: str) -> None:
        """A line that stands out."""
        self._console.print(f"consuma: {text}", markup=False, style="bold red")

    def expect_bytes(self, count: int) -> None:
        """Open the bar."""
        self._expected += count
        if self._progress is None and self._console.is_terminal:
            columns = (TextColumn("consuma: fetching"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._task = self._progress.add_task("fetching", total=None)
            self._progress.start()
        if self._progress is not None:
            self._progress.update(self._task, total=self._expected)

    def got_bytes(self, count: int) -> None:
        """Move the bar, and take it away at the end."""
        self._arrived += count
        if self._progress is not None:
            self._progress.update(self._task, completed=self._arrived)
        elif self._arrived / self._expected >= self._told + self.LINE_EVERY:
            self._told = self._arrived / self._expected
            self.say(f"fetched {self._arrived >> 20} of {self._expected >> 20} MiB")
        if self._arrived >= self._expected:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
