"""Draws the frames of `top` with rich: one frame, or a live screen.

Called by the CLI's `top`. All text is escaped. A stream that is no terminal gets one frame. A leader's metrics come from a
URL or from a kernel of this process; if they are unavailable, the frame says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO
from urllib.parse import urlsplit

from kernel import EventSourcedKernel
from kernel.clock import SystemClock
from kernel.errors import NotReadyError, ValidationError, Violation
from replay.formatting.output import escaped
from replay.views import top
from replay.views.metrics import fetched, parsed
from replay.views.top import Frame, Numbers, ScreenTable, Top

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType

WIDTH = 200
"""Columns if the stream is no terminal, so that a file holds whole lines."""
FRAME_S = 1.0
"""Seconds between frames."""

Find = Callable[[], Numbers]


class Address(NamedTuple):
    """Where a leader serves its metrics."""

    host: str
    port: int


def address_of(url: str) -> Address:
    """Parse a URL such as `http://127.0.0.1:9464/metrics`. Raises `ValidationError`."""
    with suppress(ValueError):
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme == "http" and parts.hostname and parts.port and parts.path in ("", "/", "/metrics"):
            return Address(parts.hostname, parts.port)
    raise ValidationError(violations=[Violation("metrics URL", "URL", "http://HOST:PORT/metrics", url)])


def served_at(address: Address) -> Numbers:
    return numbers_in(fetched(address.host, address.port))


def numbers_in(text: str) -> Numbers:
    found = {}
    for family in parsed(text):
        for item in family["series"]:
            if isinstance(item["value"], float):
                found[labeled(item["name"], tuple(item["labels"].items()))] = item["value"]
    return found


def labeled(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    return name + ("{" + ",".join(f'{key}="{value}"' for key, value in labels) + "}" if labels else "")


def draw(frame: Frame) -> Group:
    from rich.console import Group
    from rich.text import Text

    facts = Text("   ").join(
        Text.assemble((f"{label} ", "dim"), (escaped(value), style_of(frame, label))) for label, value in frame.facts
    )
    shown = [drawn for table in frame.tables for drawn in draw_table(table)]
    return Group(facts, *shown, *(Text(escaped(note), style="dim") for note in frame.notes))


def style_of(frame: Frame, label: str) -> str:
    return "" if label != "Ready:" else "bold green" if frame.ready else "bold red"


def draw_table(table: ScreenTable) -> Iterator[RenderableType]:
    from rich.table import Table as Drawn
    from rich.text import Text

    if not table.rows and not table.none:
        return
    yield Text()
    if not table.rows:
        yield Text.assemble((f"{table.title}: ", "bold"), table.none)
        return
    yield Text(table.title, style="bold")
    drawn = Drawn(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column in table.columns:
        drawn.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in table.rows:
        drawn.add_row(*(Text(escaped(cell)) for cell in row))
    yield drawn


def console_on(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, width=None if stream.isatty() else WIDTH, highlight=False)


async def show(
    kernel: EventSourcedKernel, stream: TextIO, *, once: bool, find: Find | None = None, every_s: float = FRAME_S
) -> None:
    """Draw one frame, or a live screen until canceled. `find` fetches a leader's metrics."""
    console = console_on(stream)
    watching = Top(kernel, clock=SystemClock())
    await watching.begin()
    if once or not stream.isatty():
        await watching.follow(to_the_head=True)
        with console.capture() as captured:
            console.print(draw(await frame_with(watching, find)))
        stream.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())
        return
    await run_screen(watching, console, find, every_s)


async def run_screen(watching: Top, console: Console, find: Find | None, every_s: float) -> None:
    """Draw a frame every `every_s` seconds, until canceled. Raises what ends the reading of the log."""
    from rich.live import Live

    following = asyncio.create_task(watching.follow(), name="top-follow")
    try:
        with Live(console=console, screen=True, auto_refresh=False) as screen:
            while True:
                screen.update(draw(await frame_with(watching, find)), refresh=True)
                await asyncio.wait({following}, timeout=every_s)
                if following.done():
                    following.result()
                    return
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def frame_with(watching: Top, find: Find | None) -> top.Frame:
    """Return a frame, with a leader's metrics if available."""
    if find is None:
        return await watching.frame()
    try:
        return await watching.frame(await asyncio.to_thread(find))
    except NotReadyError as problem:
        return await watching.frame({}, notes=(str(problem),))
