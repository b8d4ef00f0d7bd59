"""The interval around a share, and the chance behind a difference, for every table that shows one."""

import math

Z = 1.959963984540054
"""Of a 95 % interval: the 97.5 % quantile of the normal distribution."""


def wilson(p: float, n: float) -> tuple[float, float]:
    """The 95 % Wilson interval of a share `p` of `n`, which need not be whole (Wilson 1927, JASA 22:209)."""
    middle, divisor = p + Z**2 / (2 * n), 1 + Z**2 / n
    half = Z * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return max(0.0, (middle - half) / divisor), min(1.0, (middle + half) / divisor)


def sign_test(won: int, lost: int) -> float:
    """Two-sided exact p of a fair coin: twice the smaller tail, at most 1 (McNemar 1947 on the pairs that differ)."""
    n = won + lost
    tail: int = sum(math.comb(n, i) for i in range(min(won, lost) + 1))
    return min(1.0, float(2 * tail / 2**n))
