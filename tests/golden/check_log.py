"""Verifies a log without this project: `check_log.py FILE.db`, or JSON lines of its columns (bytes in hex) on stdin.

Prints the last position with its chain hash and exits 0, or prints the first bad position and exits 1.
"""

import json
import sqlite3
import struct
import sys
from hashlib import sha256

HASHED = "stream_id, version, topic, schema_version, recorded_at_ns, command_id, command_index, meta, state"
COLUMNS = f"position, {HASHED}, leaf_hash, chain_hash"
HEX = ("command_id", "leaf_hash", "chain_hash")


def rows():
    if len(sys.argv) > 1:
        return sqlite3.connect(sys.argv[1]).execute(f"SELECT {COLUMNS} FROM log ORDER BY position")
    names = COLUMNS.split(", ")
    return ([bytes.fromhex(row[c]) if c in HEX else row[c] for c in names] for row in map(json.loads, sys.stdin))


def field(value):
    data = (value % 2**64).to_bytes(8, "big") if isinstance(value, int) else value
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def main(expected=0, chain=bytes(32)):
    for expected, (position, *hashed, leaf, stored) in enumerate(rows(), start=1):
        computed = sha256(b"\x00\x01" + b"".join(map(field, hashed))).digest()
        chain = sha256(b"\x02" + chain + expected.to_bytes(8, "big") + computed).digest()
        if (position, leaf, stored) != (expected, computed, chain):
            sys.exit(f"bad: position {expected}")
    print(expected, chain.hex())


main()
