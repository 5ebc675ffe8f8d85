"""`/queue` and `/history`, as only their person sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import discord
from discord import ui

from modules.discord.posting import Attached
from modules.discord.views.answer import place_sentence
from modules.discord.views.buttons import Act, button, row, to_base36
from modules.discord.views.layout import Accent, Piece, card, thumbnail
from modules.discord.wording import alt_text, described, moment, small, spec_of
from modules.domain.catalogue import ModelSpec
from modules.domain.jobs import Job, JobId, JobState
from modules.domain.queue import Place
from modules.utils.i18n import Texts

_PROMPT_CHARS = 120
#: Of the 40 components of a message: each job takes three, its text, its row and its button.
_MOST_JOBS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One line of the history."""

    job: Job
    spec: ModelSpec | None
    thumbnail: Attached | None


def queue_list(
    jobs: Sequence[Job], places: Mapping[JobId, Place | None], models: Sequence[ModelSpec], texts: Texts
) -> ui.LayoutView:
    """Every active job with its place and Cancel."""
    if not jobs:
        return card(Accent.GREY, texts("queue.empty"))
    pieces: list[Piece | str] = [f"### {texts('queue.title', count=len(jobs))}"]
    for job in jobs[:_MOST_JOBS]:
        place = places.get(job.id)
        where = place_sentence(place, job.recipe.count, texts) if place else texts("queue.drawing")
        pieces.append(
            ui.Section(
                "\n".join((where, described(job.recipe, _PROMPT_CHARS, spec_of(models, job), texts))),
                accessory=button(Act.CANCEL, texts("button.cancel"), job.id),
            )
        )
    if len(jobs) > _MOST_JOBS:
        pieces.append(small(texts("queue.more", count=len(jobs) - _MOST_JOBS)))
    return card(Accent.BLURPLE, *pieces)


def history_card(entries: Sequence[HistoryEntry], older: int | None, texts: Texts, *, is_newest: bool = False) -> ui.LayoutView:
    """Pictures with their recipes; `older` is where the next page begins."""
    if not entries:
        return card(Accent.GREY, texts("history.empty"))
    pieces: list[Piece | str] = [f"### {texts('history.title')}"]
    for entry in entries:
        pieces += _entry(entry, texts)
    turn: list[ui.Item[ui.LayoutView]] = []
    if not is_newest:
        turn.append(button(Act.HISTORY, texts("button.newest"), argument=""))
    if older is not None:
        turn.append(button(Act.HISTORY, texts("button.older"), argument=to_base36(older)))
    pieces.append(row(*turn) if turn else "")
    return card(Accent.GREY, *pieces)


def _entry(entry: HistoryEntry, texts: Texts) -> list[Piece | str]:
    job = entry.job
    lines = [described(job.recipe, _PROMPT_CHARS, entry.spec, texts, moment(job.accepted_at))]
    if entry.thumbnail is None:
        lines.append(small(texts("history.gone", count=job.recipe.count)))
    elif job.state is JobState.UNDELIVERABLE:
        lines.append(small(texts("history.undeliverable")))
    text = "\n".join(lines)
    shown: Piece | str = text
    if entry.thumbnail is not None:
        shown = ui.Section(text, accessory=thumbnail(entry.thumbnail.name, alt_text(job.recipe.prompt)))
    controls: list[ui.Item[ui.LayoutView]] = [
        button(Act.AGAIN, texts("button.again"), job.id, emoji="🔁"),
        button(Act.REMIX, texts("button.remix"), job.id, emoji="🎛️"),
        button(Act.RECIPE, texts("button.recipe"), job.id, emoji="📋"),
    ]
    if job.result_message_id is not None:
        address = f"https://discord.com/channels/{job.guild_id}/{job.channel_id}/{job.result_message_id}"
        controls.append(ui.Button(label=texts("button.open"), url=address, style=discord.ButtonStyle.link))
    elif job.state is JobState.UNDELIVERABLE:
        controls.insert(
            0, button(Act.SEND_AGAIN, texts("button.send_again"), job.id, style=discord.ButtonStyle.primary, emoji="📨")
        )
    return [shown, ui.ActionRow(*controls)]
