"""TEMPORARY BRIDGE by the lead until the projections engineer lands the real module: overwrite freely."""
import asyncio
from kernel import events as ev, plan
from kernel.lifecycle import Record, evolve, order_state, decide, CreateIntent
from kernel.state import Applied
from kernel.stores import *
from kernel.errors import NotFoundError
from kernel.models import *
class State:
    def __init__(s):
        s.position=0; s.log_id=""; s.exchange_id=""; s.created_at_ns=0; s.epoch=0; s.paused=False; s.trades_cursor_ns=None
        s.recs={}; s.ids={}; s.xids={}; s.syms={}; s.ass={}; s.w=[]; s.fs={}
    def apply(s,batch):
        touched={}
        for e in batch:
            assert e.position==s.position+1; s.position=e.position
            if isinstance(e,ev.FindingRaised): s.fs[e.finding.finding_id]=e.finding
            if e.stream_id.startswith("intent:"):
                i=e.stream_id[7:]; r=evolve(s.record(i),e); s.recs[i]=r; touched[i]=1
                if isinstance(e,ev.AttemptStarted): s.ids[e.client_order_id]=i
                for f in r.orders:
                    if f.exchange_order_id: s.xids[f.exchange_order_id]=i
            elif isinstance(e,ev.LogCreated): s.log_id=e.log_id; s.exchange_id=e.exchange_id; s.created_at_ns=e.recorded_at_ns
            elif isinstance(e,ev.LeaderElected): s.epoch=e.epoch
            elif isinstance(e,ev.SymbolObserved): s.syms[e.symbol.symbol_id]=e.symbol
            elif isinstance(e,ev.AssetObserved): s.ass[e.asset.asset_id]=e.asset
            elif isinstance(e,ev.VenueSnapshotTaken) and e.trades_cursor_ns: s.trades_cursor_ns=e.trades_cursor_ns
        for p,f in list(s.w):
            if p<=s.position: s.w.remove((p,f)); (f.done() or f.set_result(None))
        d=[i for i in touched if plan.difference(s.intent(i),s.order_state(i))]
        return Applied(tuple(touched),tuple(d))
    async def reached(s,p):
        if p<=s.position: return
        f=asyncio.get_running_loop().create_future(); s.w.append((p,f)); await f
    def record(s,i): return s.recs.get(i) or Record(i)
    def intent(s,i): return s.record(i).intent
    def order_state(s,i): return order_state(s.record(i))
    def intents(s): return [r.intent for r in s.recs.values() if r.intent]
    def order_states(s): return [o for o in map(order_state,s.recs.values()) if o]
    def live_intent_ids(s):
        return [i for i,r in s.recs.items() if r.may_be_live or plan.difference(r.intent,order_state(r))]
    def intent_id_of(s,*,client_order_id=None,exchange_order_id=None):
        return s.xids.get(exchange_order_id) or s.ids.get(client_order_id)
    def open_orders(s,sym): return 0
    def symbol(s,x): return s.syms.get(x)
    def symbols(s): return list(s.syms.values())
    def asset(s,x): return s.ass.get(x)
    def assets(s): return list(s.ass.values())
    def positions(s): return []
    def account(s): return AccountState(exchange_id="paper")
    def findings(s): return s.fs.values()
    def balance_drift(s): return {}
class IS:
    def __init__(s,st): s.state=st
    async def get_intent(s,i):
        r=s.state.intent(i)
        if r is None: raise NotFoundError(i)
        return r
    async def list_intents(s,symbol_id=None,group_id=None): return list(s.state.intents())
class AS:
    def __init__(s,st): s.state=st
    async def get_order_state(s,i):
        r=s.state.order_state(i)
        if r is None: raise NotFoundError(i)
        return r
    async def list_order_states(s,**k): return list(s.state.order_states())
