"""Pausing and halting: nothing is sent until it is resumed; commands are still recorded.

Used by the controller. A pause is an event with who and why, so it holds for whoever leads, now and after a restart. Not
even cancels are sent while it stands; asking the venue goes on. A halt is a pause of all, or of a symbol, that lets cancels
out, also of what is paused otherwise: nothing is placed or changed, and what works can go. What had passed the reconciler's
check when all were paused still goes out; of an intent that is paused by itself nothing does that is not in the log yet as
an attempt.

Whether there is anything to change is decided on all that is in the log: what another kernel has just resumed is not taken
to be held, nor the other way round.
"""

from __future__ import annotations

from kernel import events
from kernel.commands import CommandHandler
from kernel.lifecycle import PauseIntent, ResumeIntent
from kernel.models import Evidence
from kernel.state import KernelState
from kernel.writer import EventWriter


async def pause_one(commands: CommandHandler, intent_id: str, *, paused: bool, reason: str, actor: str) -> bool:
    """Pause or resume one intent; whether that changed anything. Raises `NotFoundError`."""
    command = PauseIntent(intent_id, reason) if paused else ResumeIntent(intent_id)
    return await commands.handle(intent_id, command, actor=actor)


async def pause_all(writer: EventWriter, state: KernelState, *, reason: str, actor: str) -> bool:
    """Pause all intents together; whether that changed anything. What is halted stays halted."""
    await writer.caught_up()
    if state.paused:
        return False
    await control(writer, events.Paused(reason=reason), actor=actor)
    return True


async def halt(writer: EventWriter, state: KernelState, *, symbol_id: str | None, reason: str, actor: str) -> bool:
    """Let nothing but cancels out, of all intents or of a symbol; whether that changed anything."""
    await writer.caught_up()
    held = state.gates.every if symbol_id is None else state.gates.symbols.get(symbol_id)
    if held is not None and held.cancels:
        return False
    await control(writer, events.Paused(reason=reason, symbol_id=symbol_id, cancels=True), actor=actor)
    return True


async def resume_all(writer: EventWriter, state: KernelState, *, symbol_id: str | None, actor: str) -> bool:
    """End a pause or a halt of all, or of a symbol; whether that changed anything. What is paused by itself stays so."""
    await writer.caught_up()
    held = state.gates.every if symbol_id is None else state.gates.symbols.get(symbol_id)
    if held is None:
        return False
    await control(writer, events.Resumed(symbol_id=symbol_id), actor=actor)
    return True


async def control(writer: EventWriter, event: events.BaseEvent, *, actor: str) -> None:
    await writer.append(events.CONTROL_STREAM, [event], actor=actor, evidence=Evidence.COMMAND)
