from replay.audit.verify import verify as verify
from replay.decisions.decision_replay import replay_decisions as replay_decisions
from replay.formatting.problems import Problem as Problem, ProblemKind as ProblemKind, VerifyReport as VerifyReport
from replay.histories.order_history import history as history
from replay.histories.state_diff import diff as diff
from replay.histories.statement import statement as statement
from replay.host.blocking import connect as connect
from replay.host.bootstrap import open_kernel as open_kernel
from replay.log_access.as_of import as_of as as_of
from replay.readmodel.rebuild import rebuild as rebuild, rebuild_tables as rebuild_tables, roll_back as roll_back
from replay.readmodel.sync import sync_tables as sync_tables
from replay.transfer.backup import backup_log as backup_log, restore_log as restore_log
from replay.transfer.exporter import export_log as export_log
from replay.transfer.importer import import_log as import_log
from replay.transparency.proofs import prove as prove, prove_consistency as prove_consistency
from replay.whatif.simulation import what_if as what_if
