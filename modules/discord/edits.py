"""Every way to an edit: the picture, what should change, and the picture that was kept for the next one ("Use as reference")."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import discord

from modules.discord import wishes
from modules.discord.answers import defer_quietly, open_window, show_privately
from modules.discord.asking import Accepted, Asking
from modules.discord.house import House
from modules.discord.message_files import MessageFile
from modules.discord.posting import Attached
from modules.discord.views.forms import FormName, picture_form
from modules.discord.views.notices import notice
from modules.discord.views.reference_card import reference_card
from modules.discord.voices import Voices
from modules.domain.catalogue import ModelSpec, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId
from modules.domain.jobs import Job, JobId, Origin
from modules.domain.people import UserId
from modules.domain.recipes import Seed

Interaction = discord.Interaction[discord.Client]
#: A kept reference that nobody came back for is forgotten: weeks later it would only surprise.
REFERENCE_LIFE = timedelta(hours=1)


class Edits:
    """Asks for edits, and keeps one reference picture a person until it is used, dropped, or too old. Survives restarts."""

    def __init__(self, house: House, asking: Asking, voices: Voices) -> None:
        self._house = house
        self._asking = asking
        self._voices = voices

    async def ask(
        self,
        interaction: Interaction,
        source: BlobId,
        prompt: str,
        *,
        reference: BlobId | None = None,
        seed: Seed | None = None,
        parent: Job | None = None,
    ) -> Accepted:
        """Submit an edit. Without a `reference` of its own it takes the kept one, which is used up by that."""
        user_id = UserId(interaction.user.id)
        kept = None if reference else await self._kept(user_id)
        name = parent.recipe.model if parent else None
        wish = wishes.edit(self._models(), source, prompt, name=name, reference=reference or kept, seed=seed)
        done = await self._asking.ask(
            interaction,
            wish,
            Origin.EDIT,
            guild_id=parent.guild_id if parent else None,
            parent_id=parent.id if parent else None,
        )
        if kept is not None:
            await self._house.blobs.drop_reference(user_id, kept)
        return done

    async def check(self, interaction: Interaction, prompt: str, *, has_reference: bool = False) -> None:
        """Refuse, before a picture is read, an edit that would be refused in any case. Raises what `Asking.check` does."""
        looks_at_second = has_reference or await self._kept(UserId(interaction.user.id)) is not None
        unread = BlobId("")
        wish = wishes.edit(self._models(), unread, prompt, reference=unread if looks_at_second else None)
        await self._asking.check(interaction, wish)

    async def has_reference(self, interaction: Interaction) -> bool:
        """Whether this person's next edit looks at a second picture."""
        return await self._kept(UserId(interaction.user.id)) is not None

    async def keep(self, interaction: Interaction, file: MessageFile, job_id: JobId | None) -> None:
        """Keep a picture for the next edit, and say how to go on. `job_id`: the job whose result it is. Raises PICTURE_*,
        REFERENCE_NOT_TAKEN."""
        wishes.edit(self._models(), BlobId(""), "a trial", reference=BlobId(""))  # said now, not when the words are typed
        user_id = UserId(interaction.user.id)
        blob_id = await self._asking.upload(user_id, file)
        await self._house.blobs.keep_reference(user_id, blob_id)
        jpeg = await self._house.thumbnails.of(blob_id)
        if jpeg is None:
            raise FulletError(ErrorCode.PICTURE_GONE)
        shown = Attached(name="reference.jpg", data=jpeg)
        last = await self._house.blobs.last_of(user_id)
        is_itself = job_id is not None and last in await self._house.blobs.of_job(job_id)
        view = reference_card(
            shown.name,
            forgotten_at=self._house.clock.now() + REFERENCE_LIFE,
            has_picture=last is not None and not is_itself,  # nobody means to edit a picture with itself beside it
            texts=await self._voices.for_person(interaction),
        )
        await show_privately(interaction, view, [shown.as_file()])

    async def open_last(self, interaction: Interaction) -> None:
        """Words for an edit of the session's last picture. Raises PICTURE_MISSING."""
        await self._asking.picture_for_edit(interaction, None)
        texts = await self._voices.for_person(interaction)
        form = picture_form(FormName.REFERENCE, None, texts, has_reference=await self.has_reference(interaction))
        await open_window(interaction, form, texts)

    async def drop(self, interaction: Interaction) -> None:
        """Not wanted any more."""
        await defer_quietly(interaction)
        await self._house.blobs.drop_reference(UserId(interaction.user.id))
        texts = await self._voices.for_person(interaction)
        await interaction.edit_original_response(view=notice(texts("reference.dropped")), attachments=[])

    async def _kept(self, user_id: UserId) -> BlobId | None:
        return await self._house.blobs.reference_of(user_id, self._house.clock.now() - REFERENCE_LIFE)

    def _models(self) -> Sequence[ModelSpec]:
        return wishes.able_to(WorkflowKind.EDIT, self._house.catalogue)
