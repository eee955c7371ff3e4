from replay.testing.scripted_exchange import ScriptedExchange as ScriptedExchange
from replay.testing.scripted_venue import ScriptedVenue as ScriptedVenue
from replay.testing.virtual_clock import VirtualClock as VirtualClock
from replay.whatif.virtual_loop import VirtualLoop as VirtualLoop, run_virtually as run_virtually
