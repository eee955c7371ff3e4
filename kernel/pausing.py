"""Pausing: nothing is sent for an intent, or for any, until it is resumed; commands are still recorded.

Used by the controller. A pause is an event with who and why, so it holds for whoever leads, now and after a restart. Not
even cancels are sent while it stands; asking the venue goes on. What had passed the reconciler's check when all were paused
still goes out; of an intent that is paused by itself nothing does that is not in the log yet as an attempt.
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


async def pause_all(writer: EventWriter, state: KernelState, *, paused: bool, reason: str, actor: str) -> bool:
    """Pause or resume all intents together (one that is paused by itself stays so); whether that changed anything."""
    if state.paused == paused:
        return False
    event = events.Paused(reason=reason) if paused else events.Resumed()
    await writer.append(events.CONTROL_STREAM, [event], actor=actor, evidence=Evidence.COMMAND)
    return True
