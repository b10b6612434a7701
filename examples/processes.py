"""Steps that compute need processes: threads of one Python take turns, so two of them are no faster than one.

The steps are the same in both. What they are given and what they return must be picklable, and the last two lines must
be guarded by `if __name__ == "__main__":`, because worker processes may import this file.

Try:
    python examples/processes.py run --executor processes
    time python examples/processes.py run --limit 500000
    time python examples/processes.py run --limit 500000 --executor processes
"""

from __future__ import annotations

from itertools import pairwise

from lokki import flow, main, step

PARTS = 16


@step
def ranges(limit):
    edges = [2 + (limit - 2) * part // PARTS for part in range(PARTS + 1)]
    return list(pairwise(edges))


@step
def count_primes(edges):
    return sum(all(n % divisor for divisor in range(2, int(n**0.5) + 1)) for n in range(*edges))


@step
def total(counts, limit):
    return f"{sum(counts)} primes below {limit}"


@flow
def primes(limit: int = 100_000):
    return ranges(limit).map(count_primes).agg(total, limit=limit)


if __name__ == "__main__":
    main(primes)
