"""Whether one sampler pass for all is really faster here: a rule of thumb at first, measurements after.

*Gain* is how many times faster a picture is drawn in a batch of N than in chains: seconds per picture chained / batched. It
differs by server, model, picture size and N, so each has its own figure, learned from runs that found their model loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from modules.ai.workflows.manifest import Family
from modules.ai.workflows.plan import MergeForm
from modules.domain.images import Dimensions
from modules.domain.jobs import ServerName


class MergeMode(StrEnum):
    """The setting MERGE_MODE."""

    AUTO = "auto"
    BATCHED = "batched"  #: one pass wherever it is possible
    STACKED = "stacked"  #: chains only
    NEVER = "never"  #: people's jobs never share a workflow


#: In a batch everybody waits for the last step of all; chains deliver one by one. Below this, waiting costs more than is saved.
GAIN_FOR_PEOPLE = 1.2
#: The pictures of one job are shown together anyway, so any real gain is worth it.
GAIN_FOR_ONE_JOB = 1.05
#: Weight of the newest run: about the last six count.
SMOOTHING = 0.3
#: Runs of the other form: the first after this many of the favoured one, then one after every so many.
FIRST_PROBE_AFTER = 4
PROBE_EVERY = 32
#: A run this many times slower than the average is an accident (a busy machine, a reload), not news.
ACCIDENT_FACTOR = 5.0

#: Upper bounds of the size buckets, in megapixels of 1024 x 1024: about 512, 768, 1024 and 1448 pixels squared.
BUCKETS_MEGAPIXELS = (0.3, 0.6, 1.1, 2.1)
#: Gains assumed before anything is measured, by size bucket. U-Nets are launch-bound and gain at every size; transformers fill
#: a GPU at one megapixel. Starting points from published figures (docs/merging.md), replaced by what is measured here.
UNET_PRIOR = (1.6, 1.5, 1.3, 1.1, 1.0)
TRANSFORMER_PRIOR = (1.5, 1.2, 1.03, 1.0, 1.0)
PRIORS: Mapping[Family, tuple[float, ...]] = {Family.SD15: UNET_PRIOR, Family.SDXL: UNET_PRIOR}


@dataclass(frozen=True, slots=True, kw_only=True)
class GainKey:
    """What a gain depends on."""

    server: ServerName
    heavy_key: str
    bucket: int
    pictures: int


def bucket_of(size: Dimensions | None) -> int:
    """The size bucket, smallest 0; a picture that follows its input counts as one megapixel."""
    megapixels = size.megapixels if size else 1.0
    return sum(megapixels > bound for bound in BUCKETS_MEGAPIXELS)


@dataclass(slots=True)
class _Tally:
    """What is known of one key."""

    per_picture_s: dict[MergeForm, float] = field(default_factory=dict)
    since_probe: int = 0
    probes: int = 0


@dataclass(slots=True)
class GainBook:
    """Everything learned since the start; small (one entry per server, model, size bucket and N)."""

    _tallies: dict[GainKey, _Tally] = field(default_factory=dict)

    def note(self, key: GainKey, form: MergeForm, seconds: float) -> None:
        """A run that found its model loaded took so many seconds for all its pictures."""
        if seconds <= 0 or key.pictures < 1:
            return
        form = MergeForm.BATCHED if form is MergeForm.BATCHED else MergeForm.STACKED  # solo chains are chains
        known = self._tallies.setdefault(key, _Tally()).per_picture_s
        new, old = seconds / key.pictures, known.get(form)
        if old is None:
            known[form] = new
        elif new < old * ACCIDENT_FACTOR:
            known[form] = old + SMOOTHING * (new - old)

    def measured(self, key: GainKey) -> float | None:
        """The measured gain; None until both forms ran. Chains of any N serve as the yardstick, those of the same N first."""
        tally = self._tallies.get(key)
        batched = tally.per_picture_s.get(MergeForm.BATCHED) if tally else None
        chained = self._chained(key)
        return chained / batched if batched is not None and chained is not None else None

    def gain(self, key: GainKey, family: Family) -> float:
        """The best knowledge there is."""
        measured = self.measured(key)
        return measured if measured is not None else PRIORS.get(family, TRANSFORMER_PRIOR)[key.bucket]

    def prefers_batch(self, key: GainKey, family: Family, threshold: float) -> bool:
        """Decide one run, and now and then try the other form so that the figures stay true."""
        favoured = self.gain(key, family) >= threshold
        tally = self._tallies.setdefault(key, _Tally())
        tally.since_probe += 1
        if tally.since_probe > (PROBE_EVERY if tally.probes else FIRST_PROBE_AFTER):
            tally.since_probe, tally.probes = 0, tally.probes + 1
            return not favoured
        return favoured

    def _chained(self, key: GainKey) -> float | None:
        same = self._tallies.get(key)
        if same and MergeForm.STACKED in same.per_picture_s:
            return same.per_picture_s[MergeForm.STACKED]
        kin = [
            tally.per_picture_s[MergeForm.STACKED]
            for other, tally in self._tallies.items()
            if (other.server, other.heavy_key, other.bucket) == (key.server, key.heavy_key, key.bucket)
            and MergeForm.STACKED in tally.per_picture_s
        ]
        return min(kin, default=None)
