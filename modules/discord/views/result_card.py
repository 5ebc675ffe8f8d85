"""The result: pictures, recipe, what can be done with them. And its red sister, the card of what did not work."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from discord import ui

from modules.discord.views.buttons import Act, button, row
from modules.discord.views.layout import Accent, Piece, container, gallery, layout
from modules.discord.wording import alt_text, described, mention
from modules.domain.catalogue import ModelSpec, WorkflowKind
from modules.domain.jobs import Job
from modules.utils.i18n import Texts

PROMPT_CHARS = 300


def result_card(
    job: Job,
    files: Sequence[str],
    spec: ModelSpec | None,
    texts: Texts,
    *,
    is_spoiler: bool = False,
    offers: Collection[WorkflowKind] = tuple(WorkflowKind),
) -> ui.LayoutView:
    """A message with these attachments. The mention stands outside the container, where Discord notices it.

    `offers`: what there are templates for; no button leads to anything else.
    """
    texts_below = described(job.recipe, PROMPT_CHARS, spec, texts, *_times(job, texts))
    pictures = gallery(files, is_spoiler=is_spoiler, description=alt_text(job.recipe.prompt))
    pieces: list[Piece | str] = [pictures, texts_below, *result_controls(job, len(files), texts, offers)]
    return layout(ui.TextDisplay(mention(job.user_id)), container(Accent.GREEN, *pieces))


def result_controls(job: Job, pictures: int, texts: Texts, offers: Collection[WorkflowKind]) -> list[ui.ActionRow[ui.LayoutView]]:
    """The rows of buttons; with several pictures each has its own for upscaling and varying.

    Vary is always there: without a template for it, the same words are drawn with another seed.
    """
    many = pictures > 1

    def act(which: Act, emoji: str) -> ui.Item[ui.LayoutView]:
        return button(which, texts(f"button.{which.value}"), job.id, "" if many else "0", emoji=emoji)

    can_edit, can_enlarge = WorkflowKind.EDIT in offers, WorkflowKind.UPSCALE in offers
    first = [act(Act.AGAIN, "🔁")]
    if not many:
        first.append(act(Act.VARY, "🎲"))
    if can_edit:
        first.append(act(Act.EDIT, "✏️"))
    if can_enlarge and not many:
        first.append(act(Act.UPSCALE, "⬆️"))
    rows = [row(*first), row(act(Act.REMIX, "🎛️"), act(Act.RECIPE, "📋"), act(Act.DELETE, "🗑️"))]
    if many:
        rows += [
            row(*(button(which, str(index + 1), job.id, str(index), emoji=emoji) for index in range(pictures)))
            for which, emoji in (*([(Act.UPSCALE, "⬆️")] if can_enlarge else []), (Act.VARY, "🎲"))
        ]
    return rows


def refused_card(job: Job, texts: Texts) -> ui.LayoutView:
    """Discord takes this result in no form. It holds nothing that its person typed, for that may be what is refused."""
    again = button(Act.SEND_AGAIN, texts("button.send_again"), job.id, emoji="📨")
    return layout(ui.TextDisplay(mention(job.user_id)), container(Accent.RED, texts("card.refused"), row(again)))


def failure_card(job: Job, sentence: str, spec: ModelSpec | None, texts: Texts, *, with_mention: bool) -> ui.LayoutView:
    """What happened and what to do, where the queue card was or, with a mention, as a new message."""
    controls = [button(Act.RETRY, texts("button.retry"), job.id, emoji="🔁")]
    if spec is None or spec.details_of(job.recipe.workflow):
        controls.append(button(Act.REMIX, texts("button.settings"), job.id, emoji="🎛️"))
    body = container(
        Accent.RED,
        f"### {texts('card.failed')}\n{sentence}",
        described(job.recipe, PROMPT_CHARS, spec, texts),
        row(*controls),
    )
    return layout(ui.TextDisplay(mention(job.user_id)), body) if with_mention else layout(body)


def _times(job: Job, texts: Texts) -> tuple[str, ...]:
    times = []
    if job.waited_s is not None:
        times.append(texts("card.waited", duration=texts.duration(job.waited_s)))
    if job.worked_s is not None:
        key = "card.drawn" if job.shared_by <= 1 else "card.drawn_together"
        times.append(texts(key, duration=texts.duration(job.worked_s), count=job.shared_by - 1))
    return tuple(times)
