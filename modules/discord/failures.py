"""The one place that words failures: for slash commands, text commands, buttons, modals and autocomplete."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import discord
import structlog
from discord import app_commands
from discord.ext import commands

from modules.discord.admin_notes import AdminNotes
from modules.discord.answers import give_up, show_privately
from modules.discord.error_codes import fullet_error_for
from modules.discord.refusals import DISCORD_TROUBLE, INTERACTION_ANSWERED, UNKNOWN_INTERACTION
from modules.discord.views.notices import problem_notice
from modules.discord.voices import Voices
from modules.discord.wording import plain
from modules.domain.errors import ErrorCode, FulletError, Param
from modules.domain.people import MessageId
from modules.utils.i18n import Texts

log = structlog.get_logger(__name__)

#: What only the administrators of a guild can mend.
FOR_ADMINISTRATORS = frozenset({ErrorCode.PERMISSION_MISSING, ErrorCode.TWO_FACTOR_REQUIRED, ErrorCode.CHANNEL_LIMIT_REACHED})
_KNOWN_CODES = frozenset(code.value for code in ErrorCode)


class Refusal(app_commands.CheckFailure):
    """A FulletError in the clothes that discord.py's checks may raise."""

    def __init__(self, error: FulletError) -> None:
        super().__init__(error.code.value)
        self.error = error


def sentence(code: str, params: Iterable[tuple[str, Param]], texts: Texts) -> str:
    """What happened, what it means, what to do. An unknown code (a newer version wrote it) is worded in general."""
    if code not in _KNOWN_CODES:
        return texts("error.unknown")
    values = dict(params)
    key = f"error.{code}"
    if "" in values.values() and f"{key}_bare" in texts.sentences:
        key = f"{key}_bare"  # a sentence without the part that nothing is known of
    if "limit" in values:
        values["count"] = values["limit"]  # what plural forms go by
    try:
        return texts(key, **{name: _written(name, value, texts) for name, value in values.items()})
    except KeyError:
        log.exception("sentence_incomplete", code=code, params=sorted(values))
        return texts("error.unknown")


def _written(name: str, value: Param, texts: Texts) -> Param:
    if name in {"permission", "field"}:
        key = f"{name}.{value}"
        return texts(key) if key in texts.sentences else plain(str(value), 60)
    if isinstance(value, str):
        return plain(value, 200)
    return texts.duration(value) if name.endswith("_s") else value


class Failures:
    """Turns whatever was raised into an answer the person can act on."""

    def __init__(self, voices: Voices, admins: AdminNotes) -> None:
        self._voices = voices
        self._admins = admins

    @asynccontextmanager
    async def worded(self, interaction: discord.Interaction) -> AsyncIterator[None]:
        """Everything raised inside is answered to the person who pressed; nothing leaves but cancellation."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the supervisor of every button and modal; answered and logged
            await self.answer(interaction, error)

    async def answer(self, interaction: discord.Interaction, error: BaseException) -> None:
        """Tell the person, only them. A failure to tell is logged and goes no further."""
        failure = self.read(error, interaction.command.qualified_name if interaction.command else "component")
        if failure is None:
            give_up(interaction)
        if failure is None or interaction.type is discord.InteractionType.autocomplete:
            return
        texts = await self._voices.for_person(interaction)
        notice = problem_notice(self.sentence(failure, texts), failure.code, texts, _shown_on(interaction))
        try:
            await show_privately(interaction, notice)
        except DISCORD_TROUBLE as trouble:
            log.warning("failure_not_shown", code=failure.code.value, trouble=type(trouble).__name__)
        if failure.code in FOR_ADMINISTRATORS and interaction.guild_id is not None:
            log.warning("administrators_needed", guild_id=interaction.guild_id, code=failure.code.value, **failure.params)
            sentence_for_all = self.sentence(failure, self._voices.for_guild(interaction.guild))
            await self._admins.tell(interaction.guild_id, sentence_for_all)

    def sentence(self, failure: FulletError, texts: Texts) -> str:
        """The sentence of a failure in one language."""
        return sentence(failure.code.value, failure.params.items(), texts)

    def read(self, error: BaseException, where: str) -> FulletError | None:
        """The failure in our own terms; None when there is nobody left to tell. Bugs are logged with an id to quote."""
        cause = _cause(error)
        match cause:
            case FulletError():
                return cause
            case discord.HTTPException(code=code) if code in {UNKNOWN_INTERACTION, INTERACTION_ANSWERED}:
                log.warning("answer_too_late", where=where)
                return None
            case app_commands.CommandNotFound() | app_commands.CommandSignatureMismatch():
                log.warning("command_out_of_date", where=where)
                return FulletError(ErrorCode.COMMAND_OUT_OF_DATE)
            case app_commands.TransformerError():
                return FulletError(ErrorCode.CHOICE_UNKNOWN, field=str(cause.transformer), value=str(cause.value))
        if (of_discord := fullet_error_for(cause)) is not None:
            log.warning(
                "discord_refused", where=where, code=of_discord.code.value, reason=str(cause)[:200] or type(cause).__name__
            )
            return of_discord
        incident = secrets.token_hex(4)
        log.error("unexpected_failure", where=where, incident=incident, exc_info=cause)
        return FulletError(ErrorCode.UNEXPECTED, incident=incident)


def _shown_on(interaction: discord.Interaction) -> MessageId | None:
    """The message whose button was pressed, if others can find it again."""
    message = interaction.message
    return None if message is None or message.flags.ephemeral else MessageId(message.id)


def _cause(error: BaseException) -> BaseException:
    """What really happened, under discord.py's wrappers."""
    while True:
        match error:
            case app_commands.CommandInvokeError() | commands.CommandInvokeError():
                error = error.original
            case Refusal():
                return error.error
            case _:
                return error
