"""Registered application commands: upsert, bulk overwrite, and what Discord refuses.

Source: developer docs, "Application Commands".
"""

import unicodedata
from collections import Counter
from collections.abc import Callable
from enum import IntEnum

from modules.sandbox.discord_server.wire import ApiError, Code, FormErrors, Json
from modules.sandbox.discord_server.world import Command, World

MAX_OPTIONS = 25
MAX_CHOICES = 25
#: Name, description and values of a command, its options and choices; per language the longest counts.
MAX_COMMAND_TEXT = 8_000
#: New commands a day and scope; overwriting an existing one is free.
MAX_CREATES_A_DAY = 200
DAY_S = 24 * 60 * 60
LOCALES = frozenset(
    {"ar", "bg", "cs", "da", "de", "el", "en-GB", "en-US", "es-419", "es-ES", "fi", "fr", "he", "hi", "hr", "hu", "id", "it"}
    | {"ja", "ko", "lt", "nl", "no", "pl", "pt-BR", "ro", "ru", "sv-SE", "th", "tr", "uk", "vi", "zh-CN", "zh-TW"}
)


class CommandKind(IntEnum):
    """What a command hangs on."""

    CHAT_INPUT = 1
    USER = 2
    MESSAGE = 3


#: How many of each kind an application may have in one scope.
MAX_OF_KIND = {CommandKind.CHAT_INPUT: 100, CommandKind.USER: 15, CommandKind.MESSAGE: 15}


class OptionKind(IntEnum):
    """Option types."""

    SUB_COMMAND = 1
    SUB_COMMAND_GROUP = 2
    STRING = 3
    INTEGER = 4
    BOOLEAN = 5
    USER = 6
    CHANNEL = 7
    ROLE = 8
    MENTIONABLE = 9
    NUMBER = 10
    ATTACHMENT = 11


_NESTED = (OptionKind.SUB_COMMAND, OptionKind.SUB_COMMAND_GROUP)
_WITH_CHOICES = (OptionKind.STRING, OptionKind.INTEGER, OptionKind.NUMBER)


class CommandRegistry:
    """The commands of the application, global and by guild."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._creates: dict[int | None, list[float]] = {}
        self.on_change: Callable[[], None] = lambda: None

    def upsert(self, guild_id: int | None, definition: Json) -> tuple[Command, bool]:
        """Register one command; a second one of the same name and kind replaces the first. True when it is new."""
        check_command(definition)
        kind, name = definition.get("type") or CommandKind.CHAT_INPUT, definition["name"]
        existing = self._find(guild_id, kind, name)
        if existing is None:
            self._check_room(guild_id, Counter([kind]))
            self._count_creates(guild_id, 1)
        command = self._store(guild_id, definition, existing)
        self.on_change()
        return command, existing is None

    def overwrite(self, guild_id: int | None, definitions: list[Json]) -> list[Command]:
        """Replace all commands of a scope. Those that stay keep their id, as Discord promises."""
        for definition in definitions:
            check_command(definition)
        _check_duplicates(definitions)
        kinds = Counter(d.get("type") or CommandKind.CHAT_INPUT for d in definitions)
        _check_counts(kinds)
        before = {(c.kind, c.name): c for c in self._world.commands_for(guild_id)}
        keys = [(d.get("type") or CommandKind.CHAT_INPUT, d["name"]) for d in definitions]
        self._count_creates(guild_id, sum(1 for key in keys if key not in before))
        for command in before.values():
            del self._world.commands[command.id]
        stored = [self._store(guild_id, d, before.get(key)) for d, key in zip(definitions, keys, strict=True)]
        self.on_change()
        return stored

    def edit(self, command: Command, changes: Json) -> Command:
        """Change some fields of a command."""
        definition = command.body | {"name": command.name, "type": command.kind} | changes
        check_command(definition)
        edited = self._store(command.guild_id, definition, command)
        self.on_change()
        return edited

    def get(self, guild_id: int | None, command_id: int) -> Command:
        """Raises 10063."""
        command = self._world.commands.get(command_id)
        if command is None or command.guild_id != guild_id:
            raise ApiError(Code.UNKNOWN_COMMAND)
        return command

    def delete(self, command: Command) -> None:
        """Remove one command."""
        del self._world.commands[command.id]
        self.on_change()

    def _find(self, guild_id: int | None, kind: int, name: str) -> Command | None:
        return next((c for c in self._world.commands_for(guild_id) if (c.kind, c.name) == (kind, name)), None)

    def _store(self, guild_id: int | None, definition: Json, existing: Command | None) -> Command:
        kind = definition.get("type") or CommandKind.CHAT_INPUT
        body = _shown(definition, kind, is_global=guild_id is None)
        command_id = existing.id if existing else self._world.ids.next()
        is_same = existing is not None and existing.body == body and existing.name == definition["name"]
        version = existing.version if existing and is_same else self._world.ids.next()
        command = Command(id=command_id, version=version, guild_id=guild_id, kind=kind, name=definition["name"], body=body)
        self._world.commands[command.id] = command
        return command

    def _check_room(self, guild_id: int | None, added: Counter[int]) -> None:
        _check_counts(Counter(c.kind for c in self._world.commands_for(guild_id)) + added)

    def _count_creates(self, guild_id: int | None, count: int) -> None:
        now = self._world.clock.timestamp()
        recent = [at for at in self._creates.get(guild_id, []) if now - at < DAY_S]
        if len(recent) + count > MAX_CREATES_A_DAY:
            raise ApiError(Code.MAX_COMMAND_CREATES)
        self._creates[guild_id] = recent + [now] * count


def _shown(definition: Json, kind: int, *, is_global: bool) -> Json:
    """The definition as Discord gives it back."""
    body: Json = {
        "name_localizations": definition.get("name_localizations"),
        "description": definition.get("description") or "",
        "description_localizations": definition.get("description_localizations"),
        "default_member_permissions": _as_text(definition.get("default_member_permissions")),
        "nsfw": bool(definition.get("nsfw")),
        "integration_types": definition.get("integration_types") or [0],
        "contexts": definition.get("contexts"),
    }
    if is_global:
        body["dm_permission"] = definition.get("dm_permission") is not False
    if kind == CommandKind.CHAT_INPUT and definition.get("options"):
        body["options"] = [_shown_option(option) for option in definition["options"]]
    return body


def _shown_option(option: Json) -> Json:
    shape = {name: value for name, value in option.items() if value is not None}
    if option.get("options"):
        shape["options"] = [_shown_option(inner) for inner in option["options"]]
    for empty in ("options", "choices"):
        if not shape.get(empty):
            shape.pop(empty, None)
    return shape


def _as_text(value: object) -> str | None:
    return None if value is None else str(value)


def check_command(definition: Json) -> None:
    """Raise 50035 with everything that is wrong with a command's definition."""
    errors = FormErrors()
    kind = definition.get("type") or CommandKind.CHAT_INPUT
    if kind == CommandKind.CHAT_INPUT:
        _check_name(definition, (), errors)
        errors.check_length(["description"], definition.get("description"), 1, 100)
        _check_options(definition.get("options") or [], ("options",), 0, errors)
    else:
        errors.check_length(["name"], definition.get("name"), 1, 32)
        for forbidden in ("description", "options"):
            if definition.get(forbidden):
                message = f"Context menu commands cannot have a {forbidden}"
                errors.add([forbidden], "APPLICATION_COMMAND_CONTEXT_MENU_FIELD", message)
    _check_locales(definition, (), errors)
    if command_text(definition) > MAX_COMMAND_TEXT:
        message = f"Command exceeds maximum size ({MAX_COMMAND_TEXT})"
        errors.add([], "APPLICATION_COMMAND_TOO_LARGE", message)
    errors.raise_if_any()


def is_valid_name(name: object) -> bool:
    """Discord's `^[-_'\\p{L}\\p{N}\\p{sc=Deva}\\p{sc=Thai}]{1,32}$`, in lower case where the script has it."""
    if not isinstance(name, str) or not 1 <= len(name) <= 32 or name != name.lower():
        return False
    return all(c in "-_'" or unicodedata.category(c)[0] in "LN" or _is_deva_or_thai(c) for c in name)


def _is_deva_or_thai(character: str) -> bool:
    return unicodedata.name(character, "").startswith(("DEVANAGARI", "THAI"))


def _check_name(thing: Json, path: tuple[str | int, ...], errors: FormErrors) -> None:
    if not is_valid_name(thing.get("name")):
        message = "Command name is invalid"
        errors.add((*path, "name"), "APPLICATION_COMMAND_INVALID_NAME", message)
    for locale, name in (thing.get("name_localizations") or {}).items():
        if not is_valid_name(name):
            errors.add((*path, "name_localizations", locale), "APPLICATION_COMMAND_INVALID_NAME", "Command name is invalid")


def _check_locales(thing: Json, path: tuple[str | int, ...], errors: FormErrors) -> None:
    for field, longest in (("name_localizations", 100), ("description_localizations", 100)):
        for locale, text in (thing.get(field) or {}).items():
            if locale not in LOCALES:
                errors.add((*path, field), "BASE_TYPE_CHOICES", f"Key must be one of {sorted(LOCALES)}, not {locale}.")
            errors.check_length((*path, field, locale), text, 1, longest)


def _check_options(options: list[Json], path: tuple[str | int, ...], depth: int, errors: FormErrors) -> None:
    if len(options) > MAX_OPTIONS:
        errors.add(path, "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_OPTIONS} or fewer in length.")
    names = Counter(option.get("name") for option in options)
    has_nested = any(option.get("type") in _NESTED for option in options)
    seen_optional = False
    for index, option in enumerate(options):
        here = (*path, index)
        if names[option.get("name")] > 1:
            errors.add(here, "APPLICATION_COMMAND_OPTIONS_NAME_ALREADY_EXISTS", "Option name already exists")
        if option.get("required") and seen_optional:
            message = "Required options must be placed before non-required options"
            errors.add(here, "APPLICATION_COMMAND_OPTIONS_REQUIRED_INVALID", message)
        seen_optional |= not option.get("required")
        if has_nested and option.get("type") not in _NESTED:
            message = "Sub-command and sub-command group option types are mutually exclusive to all other types"
            errors.add(here, "APPLICATION_COMMAND_OPTIONS_TYPE_INVALID", message)
        _check_option(option, here, depth, errors)


def _check_option(option: Json, path: tuple[str | int, ...], depth: int, errors: FormErrors) -> None:
    kind = option.get("type")
    _check_name(option, path, errors)
    _check_locales(option, path, errors)
    errors.check_length((*path, "description"), option.get("description"), 1, 100)
    if kind not in set(OptionKind):
        errors.add((*path, "type"), "BASE_TYPE_CHOICES", "Value must be an option type.")
    if kind in _NESTED:
        if (kind == OptionKind.SUB_COMMAND_GROUP and depth > 0) or depth > 1:
            errors.add(path, "APPLICATION_COMMAND_OPTIONS_TYPE_INVALID", "Sub-command groups cannot be nested")
        _check_options(option.get("options") or [], (*path, "options"), depth + 1, errors)
    _check_choices(option, path, errors)


def _check_choices(option: Json, path: tuple[str | int, ...], errors: FormErrors) -> None:
    choices = option.get("choices") or []
    if len(choices) > MAX_CHOICES:
        errors.add((*path, "choices"), "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_CHOICES} or fewer in length.")
    if option.get("autocomplete") and (choices or option.get("type") not in _WITH_CHOICES):
        message = "Autocomplete needs a text or number option without choices"
        errors.add((*path, "autocomplete"), "APPLICATION_COMMAND_AUTOCOMPLETE_INVALID", message)
    for index, choice in enumerate(choices):
        here = (*path, "choices", index)
        errors.check_length((*here, "name"), choice.get("name"), 1, 100)
        if isinstance(choice.get("value"), str):
            errors.check_length((*here, "value"), choice["value"], 1, 100)
        _check_locales(choice, here, errors)
    low, high = option.get("min_value"), option.get("max_value")
    if low is not None and high is not None and low > high:
        errors.add((*path, "min_value"), "BASE_TYPE_MAX", "min_value cannot exceed max_value")


def _check_duplicates(definitions: list[Json]) -> None:
    counts = Counter((d.get("type") or CommandKind.CHAT_INPUT, d["name"]) for d in definitions)
    errors = FormErrors()
    for index, definition in enumerate(definitions):
        if counts[(definition.get("type") or CommandKind.CHAT_INPUT, definition["name"])] > 1:
            errors.add([index], "APPLICATION_COMMANDS_DUPLICATE_NAME", "Application command names must be unique")
    errors.raise_if_any()


def _check_counts(kinds: Counter[int]) -> None:
    for kind, most in MAX_OF_KIND.items():
        if kinds[kind] > most:
            raise ApiError(Code.MAX_COMMANDS)


def command_text(thing: Json) -> int:
    """How many characters count against the size of a command: per field the longest of all languages."""
    total = 0
    for field in ("name", "description"):
        told = [thing.get(field) or "", *(thing.get(f"{field}_localizations") or {}).values()]
        total += max(len(text) for text in told)
    if isinstance(thing.get("value"), str):
        total += len(thing["value"])
    return total + sum(command_text(inner) for name in ("options", "choices") for inner in thing.get(name) or [])
