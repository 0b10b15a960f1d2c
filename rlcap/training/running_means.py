"""Means of what happened since the last log, over all micro-batches and ranks, that survive a resume."""

from collections.abc import Iterable


class RunningMeans:
    """Sums and counts by name. Everything is a Python float, so that a saved state is the same to the last bit."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, name: str, total: float, count: float = 1.0) -> None:
        """Adds a sum over `count` things."""
        old_total, old_count = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = (old_total + total, old_count + count)

    def state(self) -> dict[str, list[float]]:
        """What a checkpoint keeps of one rank."""
        return {name: list(pair) for name, pair in self._sums.items()}

    def restore(self, state: dict[str, list[float]]) -> None:
        """Puts back what `state` gave."""
        self._sums = {name: (pair[0], pair[1]) for name, pair in state.items()}

    def drain(self, states: Iterable[dict[str, list[float]]]) -> dict[str, float]:
        """The means over the states of all ranks, by name, without names that nothing was counted for; starts anew."""
        merged = RunningMeans()
        for state in states:
            for name, (total, count) in state.items():
                merged.add(name, total, count)
        self._sums = {}
        return {name: total / count for name, (total, count) in sorted(merged._sums.items()) if count}
