from replay.backups import backup_log as backup_log, restore_log as restore_log
from replay.blocking import connect as connect
from replay.comparing import diff as diff
from replay.deciding import replay_decisions as replay_decisions
from replay.exporting import export_log as export_log
from replay.forking import what_if as what_if
from replay.histories import history as history
from replay.importing import import_log as import_log
from replay.parting import first_difference as first_difference
from replay.past import as_of as as_of
from replay.problems import Problem as Problem, ProblemKind as ProblemKind, VerifyReport as VerifyReport
from replay.proofs import prove as prove, prove_consistency as prove_consistency
from replay.rebuilding import rebuild as rebuild, rebuild_tables as rebuild_tables, roll_back as roll_back
from replay.recovery import open_kernel as open_kernel
from replay.statements import statement as statement
from replay.syncing import sync_tables as sync_tables
from replay.verifying import verify as verify
