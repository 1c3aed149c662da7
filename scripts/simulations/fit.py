"""Rates from measurements: least squares with no negative rate. Pure, and small enough to read."""

from __future__ import annotations

from collections.abc import Sequence

Row = Sequence[float]


def fit(rows: Sequence[tuple[Row, float]]) -> list[float]:
    """Return what each column costs, so that costs times columns come near to what was measured.

    A row has its columns and its measurement. What counts is how far off it is as a share of the
    measurement, or the longest would decide alone. A column whose best cost is negative costs
    nothing: that what it stands for takes less than no time is what noise says.
    """
    count = len(rows[0][0])
    scaled = [([column / y for column in columns], 1.0) for columns, y in rows if y > 0]
    used = [at for at in range(count) if any(columns[at] for columns, _ in scaled)]
    while used:
        found = _solve(
            [[sum(x[i] * x[j] for x, _ in scaled) for j in used] for i in used],
            [sum(x[i] * y for x, y in scaled) for i in used],
        )
        worst = min(range(len(used)), key=found.__getitem__)
        if found[worst] >= 0:
            costs = dict(zip(used, found, strict=True))
            return [costs.get(at, 0.0) for at in range(count)]
        del used[worst]
    return [0.0] * count


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solve linear equations by Gauss' elimination; raises ValueError where there is no answer."""
    size = len(right)
    # Columns differ by many powers of ten (bytes, links): scaled, pivots can be compared.
    scales = [matrix[at][at] ** 0.5 or 1.0 for at in range(size)]
    rows = [
        [matrix[i][j] / scales[i] / scales[j] for j in range(size)] + [right[i] / scales[i]]
        for i in range(size)
    ]
    for at in range(size):
        pivot = max(range(at, size), key=lambda i: abs(rows[i][at]))
        if abs(rows[pivot][at]) < 1e-12:
            raise ValueError("these measurements do not tell some costs from others")
        rows[at], rows[pivot] = rows[pivot], rows[at]
        for i in range(at + 1, size):
            share = rows[i][at] / rows[at][at]
            rows[i] = [a - share * b for a, b in zip(rows[i], rows[at], strict=True)]
    found = [0.0] * size
    for at in range(size - 1, -1, -1):
        known = sum(rows[at][j] * found[j] for j in range(at + 1, size))
        found[at] = (rows[at][size] - known) / rows[at][at]
    return [value / scale for value, scale in zip(found, scales, strict=True)]
