"""What the first steps of a run tell: how long it was busy with something else before, which is loading its model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class FirstSteps:
    """Of one run. Seconds by any one clock."""

    loading_s: float | None = None  #: known from the second step on
    _first: tuple[float, int] | None = None  #: when the first news came, and of which step

    def note(self, began_at: float, at: float, step: int) -> None:
        """A sampler says that it is through with this step. The time of one step is that between the first two news."""
        if self._first is None:
            self._first = at, step
            return
        first_at, first_step = self._first
        if self.loading_s is None and step > first_step:
            step_s = (at - first_at) / (step - first_step)
            self.loading_s = max(0.0, first_at - first_step * step_s - began_at)
