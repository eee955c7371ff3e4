"""The log in PostgreSQL as a recorder of the `eventsourcing` library, for its users: see `library`."""

from __future__ import annotations

from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.postgres import PostgresFactory
from psycopg.conninfo import make_conninfo

from kernel.log.backends.library import prepared
from kernel.log.backends.postgres import PostgresRecorder
from kernel.log.backends.postgres_datastore import Datastore


class PostgresRecorderFactory(PostgresFactory):
    """The library's factory, named by `PERSISTENCE_MODULE`; reads the library's `POSTGRES_…` variables."""

    def application_recorder(self) -> ApplicationRecorder:
        env = self.env
        conninfo = make_conninfo(
            "",
            dbname=env.get(self.POSTGRES_DBNAME),
            host=env.get(self.POSTGRES_HOST),
            port=env.get(self.POSTGRES_PORT) or "5432",
            user=env.get(self.POSTGRES_USER),
            password=env.get(self.POSTGRES_PASSWORD),
        )
        return prepared(PostgresRecorder(Datastore(conninfo, schema=env.get(self.POSTGRES_SCHEMA) or "log")))
