"""Generate the shipped tape: a seeded random walk, not market data.

`python -m tests.tape_generator FILE.csv.gz` writes it; a test compares the packaged file with the output. It
has 2,000 trades of BTCUSDT over about 60 s: exponential gaps with a mean of 30 ms, price steps of up to 2.00 (one trade in
three repeats the price) with mean reversion to 61,800.00, and log-normal quantities around 0.01 in lots of 0.00001.
"""

from __future__ import annotations

import gzip
import io
import random
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from kernel.venues.paper.tape import COLUMNS

SEED = 20_240_808
TRADES = 2_000
START_MS = 1_704_067_200_000
CENTER = 6_180_000
"""The mean to which the price reverts, in hundredths."""
STEP_MAX = 200
GAP_MEAN_MS = 30
LOT_DECIMALS = 5


def lines() -> Iterator[str]:
    """Yield the tape's lines without line ends, header first."""
    chance = random.Random(SEED)
    yield ",".join((*COLUMNS, "is_best_match"))
    price, time_ms = CENTER, START_MS
    for number in range(1, TRADES + 1):
        if chance.random() > 1 / 3:
            price += chance.randint(-STEP_MAX, STEP_MAX) + (CENTER - price) // 200
        lots = max(round(chance.lognormvariate(0, 1) * 1_000), 1)
        quantity = Decimal(lots).scaleb(-LOT_DECIMALS)
        quote = Decimal(price).scaleb(-2) * quantity
        yield f"{number},{Decimal(price).scaleb(-2)},{quantity:f},{quote:f},{time_ms},{chance.random() < 0.5},True"
        time_ms += round(chance.expovariate(1 / GAP_MEAN_MS))


def write(path: Path) -> None:
    """Write the tape; the bytes are reproducible."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as file:
        file.write(("\n".join(lines()) + "\n").encode())
    path.write_bytes(packed.getvalue())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
