"""From a wish to an accepted job: the same road for commands, buttons and modals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import discord

from modules.discord.attachments import AttachmentReader
from modules.discord.checks import check_wish, weight_of
from modules.discord.guilds import Guilds, is_complete
from modules.discord.house import DiscordOptions, House
from modules.discord.menu_pictures import MenuPictures
from modules.discord.message_files import MessageFile, as_message_file, images_of
from modules.discord.refusals import DISCORD_TROUBLE, RefusalKind, refusal_of
from modules.discord.session_rooms import SessionRooms
from modules.domain.catalogue import ModelSpec, Wish
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, PictureInfo
from modules.domain.jobs import JobId, JobRequest, Origin, WorkClass
from modules.domain.people import GuildId, InteractionId, Language, Person, UserId
from modules.domain.ports import Ticket
from modules.domain.recipes import Recipe
from modules.domain.records import GuildSettings, PersonSettings
from modules.domain.sessions import Session


@dataclass(frozen=True, slots=True)
class Accepted:
    """A job that is stored, and where it can be followed."""

    ticket: Ticket
    session: Session
    language: str  #: the person is answered in


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A wish that would be accepted right now, and what was looked up for that."""

    member: discord.Member
    recipe: Recipe
    work: WorkClass
    spec: ModelSpec
    guild_settings: GuildSettings
    source: PictureInfo | None  #: the picture it starts from, as stored


class Asking:
    """Submits wishes for the person behind an interaction."""

    def __init__(self, house: House, guilds: Guilds, rooms: SessionRooms, options: DiscordOptions) -> None:
        self._house = house
        self._guilds = guilds
        self._rooms = rooms
        self._options = options
        self._menu_pictures = MenuPictures()
        self._attachments = AttachmentReader(house.intake, options.cdn_hosts)

    async def ask(
        self,
        interaction: discord.Interaction,
        wish: Wish,
        origin: Origin,
        *,
        guild_id: GuildId | None = None,
        parent_id: JobId | None = None,
        settings: PersonSettings | None = None,
    ) -> Accepted:
        """Check, make sure of the session channel, submit. `guild_id`: for a button pressed in a direct message; `settings`: the
        person's, for a caller who has them already.

        Raises what `check` and the studio raise, PICTURE_GONE, and what making a channel raises.
        """
        checked = await self.check(interaction, wish, guild_id=guild_id)
        member, recipe, guild_settings = checked.member, checked.recipe, checked.guild_settings
        await self._check_pictures(recipe, checked.source)
        if settings is None:
            settings = await self._house.people.settings(UserId(member.id))
        language = settings.language or interaction.locale.value
        session = await self._rooms.ensure(member, language=language, is_age_restricted=checked.spec.is_age_restricted)
        person = Person(
            user_id=UserId(member.id),
            guild_id=GuildId(member.guild.id),
            display_name=member.display_name,
            language=Language.from_locale(language, self._options.default_language),
            weight=weight_of(
                (role.id for role in member.roles),
                guild_settings,
                house=self._options.role_weights,
                is_admin=member.guild_permissions.administrator,
                is_booster=any(role.is_premium_subscriber() for role in member.roles),
            ),
            is_admin=member.guild_permissions.administrator,
        )
        ticket = await self._house.studio.submit(
            JobRequest(
                interaction_id=InteractionId(interaction.id),
                person=person,
                recipe=recipe,
                work=checked.work,
                origin=origin,
                channel_id=session.channel_id,
                parent_id=parent_id,
            )
        )
        return Accepted(ticket, session, language)

    async def check(self, interaction: discord.Interaction, wish: Wish, *, guild_id: GuildId | None = None) -> Checked:
        """Refuse what would be refused, in this order: who asks, then what is asked for. Nothing is read, decoded or made for it.

        Raises NOT_IN_A_GUILD, PERSON_BANNED, ACTIVE_LIMIT_REACHED, QUEUE_FULL, STOPPING, what the catalogue raises,
        PROMPT_BLOCKED, MODEL_AGE_RESTRICTED.
        """
        member = await self._member(interaction, guild_id)
        await self._house.studio.check_may_ask(UserId(member.id))
        source = await self._house.blobs.info(wish.source) if wish.source else None
        recipe, work = self._house.catalogue.resolve(replace(wish, source_size=source.size if source else None))
        guild_settings = await self._house.people.guild(GuildId(member.guild.id))
        spec = self._house.catalogue.model(recipe.model)
        check_wish(wish, spec, guild_settings, interaction.channel)
        return Checked(member=member, recipe=recipe, work=work, spec=spec, guild_settings=guild_settings, source=source)

    async def _check_pictures(self, recipe: Recipe, source: PictureInfo | None) -> None:
        """What it is made from may have been deleted since: said now rather than when its turn comes. Raises PICTURE_GONE."""
        if recipe.source is not None and source is None:
            raise FulletError(ErrorCode.PICTURE_GONE)
        if recipe.reference is not None and await self._house.blobs.info(recipe.reference) is None:
            raise FulletError(ErrorCode.PICTURE_GONE)

    async def upload(self, user_id: UserId, attached: discord.Attachment | MessageFile) -> BlobId:
        """Read, check and keep somebody's picture. Its address is not kept. Raises PERSON_BANNED, PICTURE_*, PICTURES_BUSY."""
        if (await self._house.people.settings(user_id)).is_banned:
            raise FulletError(ErrorCode.PERSON_BANNED)
        return await self._attachments.picture(user_id, as_message_file(attached))

    def remember_picture(self, interaction: discord.Interaction, message_id: int, file: MessageFile) -> None:
        """For the window that opens now on this message: the channel may be closed to us, the interaction brought the address."""
        self._menu_pictures.keep(interaction.user.id, message_id, file, self._house.clock.now())

    async def picture_in(self, interaction: discord.Interaction, message_id: int) -> BlobId:
        """The first picture of the message that a window was opened on.

        Raises MESSAGE_OUT_OF_REACH when it is no longer remembered and we may not read the channel, PICTURE_GONE and PICTURE_*;
        Discord's own trouble passes through.
        """
        file = self._menu_pictures.of(interaction.user.id, message_id, self._house.clock.now())
        if file is not None:
            return await self.upload(UserId(interaction.user.id), file)
        channel = interaction.channel
        if not isinstance(channel, discord.abc.Messageable):
            raise FulletError(ErrorCode.MESSAGE_OUT_OF_REACH)
        try:
            message = await channel.fetch_message(message_id)
        except DISCORD_TROUBLE as error:
            if refusal_of(error).kind is RefusalKind.LATER:
                raise
            raise FulletError(ErrorCode.MESSAGE_OUT_OF_REACH) from error
        images = images_of(message)
        if not images:
            raise FulletError(ErrorCode.PICTURE_GONE)
        return await self.upload(UserId(interaction.user.id), images[0])

    async def recipe_in(self, interaction: discord.Interaction, attached: discord.Attachment | MessageFile) -> str | None:
        """The recipe that we wrote into a picture's file, or a file of JSON as it is; None for any other. Raises PICTURE_*."""
        return await self._attachments.recipe(UserId(interaction.user.id), as_message_file(attached))

    async def picture_for_edit(self, interaction: discord.Interaction, image: discord.Attachment | None) -> BlobId:
        """The attached picture, else the last one of the person's session. Raises PICTURE_MISSING."""
        if image is not None:
            return await self.upload(UserId(interaction.user.id), image)
        last = await self._house.blobs.last_of(UserId(interaction.user.id))
        if last is None:
            raise FulletError(ErrorCode.PICTURE_MISSING)
        return last

    async def _member(self, interaction: discord.Interaction, guild_id: GuildId | None) -> discord.Member:
        user = interaction.user
        if isinstance(user, discord.Member) and is_complete(user.guild):
            return user
        where = GuildId(user.guild.id) if isinstance(user, discord.Member) else guild_id
        # Without their guild's roles a member has no weight and no rights: Discord is asked for both.
        member = await self._guilds.member(where, UserId(user.id)) if where is not None else None
        if member is None:
            raise FulletError(ErrorCode.NOT_IN_A_GUILD)
        return member
