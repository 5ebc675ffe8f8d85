"""The card of a job while it waits and runs: what it shows (`CardFace`, a plain value) and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from discord import ui

from modules.discord.views.buttons import Act, button, row
from modules.discord.views.layout import Accent, Piece, card, gallery
from modules.discord.wording import bar, described, moment, small
from modules.domain.catalogue import ModelSpec
from modules.domain.jobs import Job
from modules.domain.queue import Place
from modules.domain.servers import InMemory
from modules.utils.i18n import Texts

PREVIEW_FILE = "preview.jpg"
PROMPT_CHARS = 200
#: The client counts `<t:..:R>` down by itself: a moment is news only when it moved by more than this.
MOMENT_TOLERANCE = timedelta(seconds=20)


class CardState(StrEnum):
    """What a card can show."""

    WAITING = "waiting"
    NEXT = "next"
    PAUSED = "paused"  #: an admin paused the queue
    AWAY = "away"  #: no server can run it now
    STRANDED = "stranded"  #: the server that had it went away with it
    LOADING = "loading"
    DRAWING = "drawing"
    FINISHING = "finishing"
    CANCELLED = "cancelled"


ACCENTS = {
    CardState.WAITING: Accent.GREY,
    CardState.NEXT: Accent.BLURPLE,
    CardState.PAUSED: Accent.YELLOW,
    CardState.AWAY: Accent.YELLOW,
    CardState.STRANDED: Accent.YELLOW,
    CardState.LOADING: Accent.BLURPLE,
    CardState.DRAWING: Accent.BLURPLE,
    CardState.FINISHING: Accent.BLURPLE,
    CardState.CANCELLED: Accent.GREY,
}
CAN_BE_CANCELLED = frozenset(ACCENTS) - {CardState.FINISHING, CardState.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFace:
    """Everything a card says beyond the job's own recipe."""

    state: CardState
    position: int = 0
    moment: datetime | None = None  #: the likely end
    step: int = 0
    steps: int = 0
    shared_by: int = 1
    preview: int = 0  #: number of the preview shown; 0: none
    elapsed_s: float = 0.0  #: since the start; written when the card is edited anyway
    was_requeued: bool = False  #: an attempt of it came to nothing
    was_lost: bool = False  #: for the server went away under it
    in_memory: InMemory = InMemory.THIS  #: the model that the GPU had as it began
    tellings: int = 0  #: moments that passed before its turn came, so that another had to be told
    by_admin: bool = False  #: cancelled by somebody else
    had_begun: bool = False  #: cancelled after a GPU had taken it: that share is not given back

    def looks_like(self, shown: CardFace) -> bool:
        """Whether a person would see no difference worth an edit."""
        return self._said() == shown._said() and not _moved(self.moment, shown.moment)

    def differs_only_in_progress(self, shown: CardFace) -> bool:
        """Whether only steps or the preview changed: such edits can wait a little."""
        return self.state is shown.state is CardState.DRAWING and self.shared_by == shown.shared_by

    def _said(self) -> tuple[object, ...]:
        return (
            self.state, self.position, self.step, self.steps, self.shared_by, self.preview, self.was_requeued, self.was_lost,
            self.tellings,
        )  # fmt: skip


def face_of_place(place: Place, *, before: CardFace | None = None, tellings: int = 0) -> CardFace:
    """What a waiting job shows. `before`: what it showed, for what an attempt that came to nothing left to say."""
    was_requeued, was_lost = (before.was_requeued, before.was_lost) if before else (False, False)
    if place.is_paused:
        return CardFace(state=CardState.PAUSED, was_requeued=was_requeued, was_lost=was_lost)
    if place.starts_at is None and not place.is_moment_open:
        return CardFace(state=CardState.AWAY, was_requeued=was_requeued, was_lost=was_lost)
    return CardFace(
        state=CardState.NEXT if place.position <= 1 else CardState.WAITING,
        position=place.position,
        moment=place.ends_at,
        was_requeued=was_requeued,
        was_lost=was_lost,
        tellings=tellings,
    )


def queue_card(job: Job, face: CardFace, spec: ModelSpec | None, texts: Texts) -> ui.LayoutView:
    """Draw it. With `face.preview` the message must carry an attachment named PREVIEW_FILE."""
    pieces: list[Piece | str] = [f"### {_headline(face, texts)}"]
    if face.preview and face.state in {CardState.DRAWING, CardState.FINISHING}:
        pieces.append(gallery([PREVIEW_FILE], description=texts("card.preview")))
    pieces.append(described(job.recipe, PROMPT_CHARS, spec, texts))
    pieces.append("\n".join(small(note) for note in _notes(face, texts)))
    pieces.append(row(*controls) if (controls := _controls(job, face, texts)) else "")
    return card(ACCENTS[face.state], *pieces)


def _headline(face: CardFace, texts: Texts) -> str:
    match face.state:
        case CardState.WAITING:
            place = texts("card.waiting", place=texts.ordinal(face.position))
            return f"{place} · {texts('card.about', moment=moment(face.moment))}" if face.moment else place
        case CardState.NEXT:
            return (
                f"{texts('card.next')} · {texts('card.about', moment=moment(face.moment))}" if face.moment else texts("card.next")
            )
        case CardState.DRAWING if face.steps:
            return f"{bar(face.step, face.steps)} {face.step}/{face.steps}"
        case _:
            return texts(f"card.{face.state.value}")


def _notes(face: CardFace, texts: Texts) -> list[str]:
    notes = []
    if face.state is CardState.LOADING:
        notes.append(texts("card.loading_another" if face.in_memory is InMemory.ANOTHER else "card.loading_note"))
    if face.state is CardState.PAUSED:
        notes.append(texts("card.paused_note"))
    if face.state is CardState.AWAY:
        notes.append(texts("card.away_note"))
    if face.state is CardState.STRANDED:
        notes.append(texts("card.stranded_note"))
    if face.by_admin:
        notes.append(texts("card.cancelled_by_admin"))
    if face.state is CardState.CANCELLED:
        notes.append(texts("card.cancelled_begun" if face.had_begun else "card.cancelled_note"))
    if face.state is CardState.DRAWING and face.elapsed_s >= 1:
        notes.append(texts("card.elapsed", duration=texts.duration(face.elapsed_s)))
    if face.state in {CardState.DRAWING, CardState.LOADING} and face.shared_by > 1:
        notes.append(texts("card.shared", count=face.shared_by - 1))
    if face.was_requeued and face.state in {CardState.WAITING, CardState.NEXT, CardState.AWAY}:
        notes.append(texts("card.requeued" if face.was_lost else "card.once_more"))
    return notes


def _controls(job: Job, face: CardFace, texts: Texts) -> list[ui.Item[ui.LayoutView]]:
    if face.state in CAN_BE_CANCELLED:
        return [button(Act.CANCEL, texts("button.cancel"), job.id)]
    if face.state is CardState.CANCELLED:
        return [button(Act.RETRY, texts("button.again"), job.id, emoji="🔁")]
    return []


def _moved(now: datetime | None, before: datetime | None) -> bool:
    if now is None or before is None:
        return now is not before
    return abs(now - before) > MOMENT_TOLERANCE
