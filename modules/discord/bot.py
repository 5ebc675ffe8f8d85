"""The bot: joins discord.py to the house. Start-up is in `setup_hook`; whatever Discord may say twice is safe to hear twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import discord
import structlog
from discord import app_commands
from discord.ext import commands

from modules.discord.admin_notes import AdminNotes
from modules.discord.answers import answer_in_time
from modules.discord.asking import Asking
from modules.discord.callbacks import repeat_callbacks_safely
from modules.discord.card_keeper import CardKeeper
from modules.discord.checks import check_guild
from modules.discord.cogs import COGS
from modules.discord.controls import Controls
from modules.discord.edits import Edits
from modules.discord.endpoint import log_in
from modules.discord.failures import Failures, Refusal
from modules.discord.form import GenerationForm
from modules.discord.guilds import Guilds, is_complete
from modules.discord.house import DiscordOptions, House
from modules.discord.own_pictures import OwnPictures
from modules.discord.posting import Post
from modules.discord.recalls import Recalls
from modules.discord.refusals import DISCORD_TROUBLE
from modules.discord.registration import PATIENCE_S, CommandLimits, Registration
from modules.discord.server_notes import ServerNotes
from modules.discord.session_rooms import SessionRooms
from modules.discord.session_starts import wait_for_session_start
from modules.discord.text_commands import TextContext
from modules.discord.translator import CatalogueTranslator
from modules.discord.views.buttons import PressButton
from modules.discord.views.forms import Submission, typed_in
from modules.discord.views.layout import Accent
from modules.discord.views.notices import registration_done
from modules.discord.views.selects import FieldSelect
from modules.discord.voices import Voices
from modules.domain.errors import FulletError
from modules.domain.people import GuildId
from modules.utils.i18n import Phrasebook

log = structlog.get_logger(__name__)

#: discord.py sleeps through rate limits up to this long and raises beyond it; the courier then comes back by itself.
LONGEST_RATE_LIMIT_S = 90.0
#: What a guild must have is made before anything else at the start, but nothing waits longer than this for it.
MEET_WITHIN_S = 5.0
#: When stopping: what somebody just asked is still answered, at most this long.
LAST_ANSWERS_S = 3.0


class GatewayGone(RuntimeError):  # noqa: N818 - says what is so, like discord.py's own
    """No gateway for longer than our patience: the process should end with an error, so that its supervisor starts it anew."""


class FulletTree(app_commands.CommandTree["FulletBot"]):
    """Slash commands, checked once for all: only in the guild we serve."""

    async def interaction_check(self, interaction: discord.Interaction[FulletBot], /) -> bool:
        """Refuse politely elsewhere."""
        self.client.note_handling()
        try:
            check_guild(interaction.guild_id, self.client.options.allowed_guild_id)
        except FulletError as error:
            raise Refusal(error) from error
        return True

    async def on_error(self, interaction: discord.Interaction[FulletBot], error: app_commands.AppCommandError, /) -> None:
        """Every failure of every slash command ends here."""
        await self.client.failures.answer(interaction, error)


class FulletBot(commands.Bot):
    """discord.py's bot with our services at hand for the cogs."""

    def __init__(self, house: House, options: DiscordOptions) -> None:
        limits = CommandLimits(house.clock)
        super().__init__(
            command_prefix="!",
            tree_cls=FulletTree,
            intents=_intents(),
            help_command=None,
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,
            chunk_guilds_at_startup=False,
            guild_ready_timeout=options.guild_patience_s,
            max_ratelimit_timeout=LONGEST_RATE_LIMIT_S,
            http_trace=limits.trace,
            enable_debug_events=True,  # for `dispatch`, which notes when the gateway was last heard
        )
        self.house = house
        self.options = options
        self.phrases = Phrasebook.load(options.default_language)
        self.voices = Voices(self.phrases, house.people)
        self.post = Post(self)
        self.known_guilds = Guilds(self)
        self.rooms = SessionRooms(self.known_guilds, house, self.voices, options)
        self.registration = Registration(self.tree, limits, house.control)
        self.admins = AdminNotes(self.rooms, house.clock)
        self.server_notes = ServerNotes(self, house.studio, self.admins, self.voices, self.when_ready)
        self.failures = Failures(self.voices, self.admins)
        self.asking = Asking(house, self.known_guilds, self.rooms, options)
        self.cards = CardKeeper(house, self.post, self.voices, self.when_ready, has_courier=options.has_courier)
        self.own = OwnPictures(house, self.post, self.rooms, self.voices)
        self.form = GenerationForm(house, self.asking, self.voices, self.failures)
        self.recalls = Recalls(house, self.asking, self.form, self.voices)
        self.edits = Edits(house, self.asking, self.voices)
        self.controls = Controls(house, self.asking, self.own, self.form, self.recalls, self.edits, self.voices)
        self._is_set_up = asyncio.Event()
        self._registered = asyncio.Event()  #: or failed to be, at this start
        self._is_up = asyncio.Event()
        self._meets_guilds = False  #: discord.py has said "ready" once: guilds that come later are met one by one
        self._gateway = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()
        self._heard_at = house.clock.monotonic()  #: when the gateway last sent anything, heartbeat acknowledgements included
        self._handling: set[asyncio.Task[object]] = set()

    # --- life -----------------------------------------------------------------------------------------------------------

    async def run_with(self, token: str) -> None:
        """Log in and serve until cancelled. Raises discord.LoginFailure, discord.PrivilegedIntentsRequired, GatewayGone."""
        repeat_callbacks_safely()
        async with asyncio.TaskGroup() as tasks, self:
            watch = tasks.create_task(self._watch_gateway(), name="gateway-watch")
            listening = tasks.create_task(self._watch_silence(), name="gateway-silence")
            registering = tasks.create_task(self._register_at_start(), name="commands-at-start")
            await log_in(self, token)
            watch.cancel()  # a wait on purpose is no outage, and uses up nothing of the patience with what follows
            await wait_for_session_start(self)
            watch = tasks.create_task(self._watch_gateway(), name="gateway-watch")
            await self.connect()
            watch.cancel()
            listening.cancel()
            registering.cancel()

    async def when_ready(self) -> None:
        """Returns once the gateway is ready, whether or not every guild has come: what it does not tell is asked over REST."""
        await self._is_up.wait()

    def note_handling(self) -> None:
        """The current task answers a person: stopping waits for it a little. discord.py keeps no list of its own."""
        task = asyncio.current_task()
        if task is not None and task not in self._handling:
            self._handling.add(task)
            task.add_done_callback(self._handling.discard)

    async def close(self) -> None:
        """Let what is being answered end, then hang up. Who waits for Discord to take commands is answered: after the restart."""
        await self.registration.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWERS_S):
                while self._handling:  # what failed is answered by a task of its own, that its command begins as it ends
                    await asyncio.wait(self._handling)
        await super().close()

    def dispatch(self, event_name: str, /, *args: Any, **kwargs: Any) -> None:
        """discord.py announces "ready" a while after the fact, even if it was closed meanwhile; then nobody listens."""
        if event_name == "socket_raw_receive":
            self._heard_at = self.house.clock.monotonic()
        if not self.is_closed():
            super().dispatch(event_name, *args, **kwargs)

    async def setup_hook(self) -> None:
        """Once, after login and before the gateway."""
        await self.tree.set_translator(CatalogueTranslator(self.phrases))
        for cog in COGS:
            await self.add_cog(cog(self))
        self.add_dynamic_items(PressButton, FieldSelect)
        self._is_set_up.set()
        with contextlib.suppress(TimeoutError):  # a rate limit of Discord's does not keep people from what already works
            async with asyncio.timeout(PATIENCE_S):
                await self._registered.wait()

    async def _register_at_start(self) -> None:
        """What an administrator asked for before the restart is done now and told; else what has changed is registered."""
        await self._is_set_up.wait()
        asked, count, failure = None, None, None
        try:
            asked = await self.registration.unfinished()
            count = await self.registration.catch_up(asked)
        except (FulletError, *DISCORD_TROUBLE) as error:
            log.exception("commands_not_synced")  # the next start tries again; the old ones keep working
            failure = self.failures.read(error, "commands at start")
        self._registered.set()
        if asked is None:
            return
        await self.when_ready()
        for guild in self.guilds:
            texts = self.voices.for_guild(guild)
            if failure is not None:
                await self.admins.tell(guild.id, self.failures.sentence(failure, texts))
            else:
                await self.admins.tell(guild.id, registration_done(count, texts), accent=Accent.GREY)

    async def _watch_gateway(self) -> None:
        """Wait for the gateway to be gone; give up when it stays away."""
        while True:
            await self._lost.wait()
            try:
                async with asyncio.timeout(self.options.gateway_patience_s):
                    await self._gateway.wait()
            except TimeoutError:
                raise GatewayGone(f"no gateway for {self.options.gateway_patience_s:.0f} s") from None

    async def _watch_silence(self) -> None:
        """Give up when an open gateway says nothing at all: even one without events acknowledges a heartbeat every 41 s.

        discord.py closes such a connection after a minute; this is for the case that it does not come to that.
        """
        limit_s = self.options.gateway_silence_s
        while True:
            await self._gateway.wait()
            silent_s = self.house.clock.monotonic() - self._heard_at
            if silent_s > limit_s:
                raise GatewayGone(f"the gateway said nothing for {silent_s:.0f} s")
            await asyncio.sleep(limit_s - silent_s + 0.01)

    # --- what Discord says ----------------------------------------------------------------------------------------------

    async def on_connect(self) -> None:
        """A fresh session of the gateway."""
        self._mark_gateway(is_there=True)

    async def on_resumed(self) -> None:
        """The old session goes on."""
        self._mark_gateway(is_there=True)

    async def on_disconnect(self) -> None:
        """May come many times for one outage."""
        self._mark_gateway(is_there=False)

    async def on_ready(self) -> None:
        """May come again after every reconnect, and before the guilds: those follow with `on_guild_available`."""
        self._meets_guilds = True
        away = [guild.id for guild in self.guilds if not is_complete(guild)]
        log.info("discord_ready", guilds=len(self.guilds), away=len(away))
        if away:
            log.warning("guilds_away", guild_ids=away)
        try:
            async with asyncio.timeout(MEET_WITHIN_S):
                await self._meet_all()
        except TimeoutError:
            self._is_up.set()  # Discord is slow: nobody's picture waits for that
            await self._meet_all()
        finally:
            self._is_up.set()

    async def _meet_all(self) -> None:
        for guild in self.guilds:
            await self._meet(guild)

    async def on_guild_join(self, guild: discord.Guild) -> None:
        """Somebody invited us."""
        await self._meet(guild)

    async def on_guild_available(self, guild: discord.Guild) -> None:
        """A guild came: some time after READY, or back from an outage of Discord's."""
        if self._meets_guilds:
            log.info("guild_came", guild_id=guild.id)
            await self._meet(guild)

    async def on_guild_unavailable(self, guild: discord.Guild) -> None:
        """A guild went out. What is asked of it meanwhile is asked over REST."""
        log.warning("guild_went_away", guild_id=guild.id)

    async def on_interaction(self, interaction: discord.Interaction[FulletBot]) -> None:
        """Modals: read from the interaction itself, so that one which was open over a restart still works.

        What another version of us has made, and this one does not know, is answered too.
        """
        data = interaction.data
        if not isinstance(data, Mapping):
            return
        if interaction.type is discord.InteractionType.modal_submit:
            self.note_handling()
            async with self.failures.worded(interaction):
                submission = Submission.read(data)
                if submission is not None:
                    await self.controls.submit(interaction, submission)
                else:
                    await self.controls.give_back(interaction, typed_in(data))
            return
        if interaction.type is discord.InteractionType.component and not is_of_ours(str(data.get("custom_id", ""))):
            self.note_handling()
            async with self.failures.worded(interaction):
                await self.controls.give_back(interaction, {})
            return
        await answer_in_time(interaction)

    async def get_context(self, origin: discord.Message | discord.Interaction, /, *, cls: Any = TextContext) -> Any:
        """Text commands have one answer."""
        return await super().get_context(origin, cls=cls)

    async def invoke(self, context: Any, /) -> None:
        """Who asked something is answered, also when we are about to stop."""
        if context.command is not None:
            self.note_handling()
        await super().invoke(context)

    async def on_command_error(self, context: TextContext, error: commands.CommandError) -> None:  # type: ignore[override] # our bot
        """Text commands are for administrators in one channel: everybody else meets silence."""
        self.note_handling()
        if isinstance(error, (commands.CommandNotFound, commands.CheckFailure)):
            return
        failure = self.failures.read(error, f"!{context.command}")
        if failure is not None:
            await context.answer(self.failures.sentence(failure, self.voices.for_guild(context.guild)))

    # --- inside ---------------------------------------------------------------------------------------------------------

    async def _meet(self, guild: discord.Guild) -> None:
        """Serve the guild, or leave it."""
        allowed = self.options.allowed_guild_id
        if allowed is not None and guild.id != allowed:
            log.warning("other_guild_left", guild_id=guild.id)
            try:
                await guild.leave()
            except DISCORD_TROUBLE as error:
                log.warning("other_guild_not_left", guild_id=guild.id, reason=type(error).__name__)
            return
        if is_complete(guild):
            await self.rooms.welcome(GuildId(guild.id))

    def _mark_gateway(self, *, is_there: bool) -> None:
        (self._gateway.set if is_there else self._gateway.clear)()
        (self._lost.clear if is_there else self._lost.set)()


def is_of_ours(custom_id: str) -> bool:
    """Whether a button or select is one that we answer."""
    templates = [item.__discord_ui_compiled_template__ for item in (PressButton, FieldSelect)]
    return any(template.fullmatch(custom_id) for template in templates)


def _intents() -> discord.Intents:
    """Guilds and channels; members, to learn who left; messages with their content, for `!sync` and for uploads in sessions."""
    intents = discord.Intents.none()
    intents.guilds = True
    intents.members = True
    intents.messages = True
    intents.message_content = True
    return intents
