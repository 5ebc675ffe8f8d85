"""What a person filled in for a slash command, checked as Discord's client and API check it."""

from collections.abc import Callable
from typing import Any

from modules.sandbox.discord_server.commands import CommandKind, OptionKind
from modules.sandbox.discord_server.components import Kind
from modules.sandbox.discord_server.resolved import Resolved
from modules.sandbox.discord_server.wire import Json, invalid
from modules.sandbox.discord_server.world import Command

_RESOLVES = {
    OptionKind.USER: "user",
    OptionKind.CHANNEL: "channel",
    OptionKind.ROLE: "role",
    OptionKind.MENTIONABLE: "mentionable",
    OptionKind.ATTACHMENT: "attachment",
}


def invocation(command: Command, options: list[Json], resolved: Resolved, *, partial: bool) -> Json:
    """The `data` of a command or autocomplete interaction.

    `options` are Discord-shaped (`name`, `value` or nested `options`); `partial` is for autocomplete, where required options may
    still be missing and half-typed values are passed on. Raises 50035 for what Discord would not accept.
    """
    data: Json = {"id": str(command.id), "name": command.name, "type": command.kind}
    if command.guild_id is not None:
        data["guild_id"] = str(command.guild_id)
    if command.kind == CommandKind.CHAT_INPUT:
        data["options"] = _options(command.body.get("options") or [], options, resolved, partial=partial)
    if resolved.shape:
        data["resolved"] = resolved.shape
    return data


def _options(known: list[Json], given: list[Json], resolved: Resolved, *, partial: bool) -> list[Json]:
    by_name = {option["name"]: option for option in known}
    shaped = []
    for item in given:
        definition = by_name.get(item.get("name", ""))
        if definition is None:
            raise invalid(["options"], "OPTION_UNKNOWN", f"Unknown option {item.get('name')}")
        shaped.append(_option(definition, item, resolved, partial=partial))
    missing = [o["name"] for o in known if o.get("required") and o["name"] not in {item["name"] for item in given}]
    if missing and not partial:
        raise invalid(["options"], "OPTION_REQUIRED", f"Required: {', '.join(missing)}")
    return shaped


def _option(definition: Json, item: Json, resolved: Resolved, *, partial: bool) -> Json:
    kind = OptionKind(definition["type"])
    shape: Json = {"name": definition["name"], "type": int(kind)}
    if kind in (OptionKind.SUB_COMMAND, OptionKind.SUB_COMMAND_GROUP):
        shape["options"] = _options(definition.get("options") or [], item.get("options") or [], resolved, partial=partial)
        return shape
    if item.get("focused"):
        return shape | {"value": str(item.get("value", "")), "focused": True}
    shape["value"] = _value(kind, definition, item.get("value"))
    if kind in _RESOLVES:
        resolved.all(_RESOLVES[kind], [int(shape["value"])])
    return shape


def _value(kind: OptionKind, definition: Json, value: Any) -> str | int | float | bool:
    convert: dict[OptionKind, Callable[[Any], str | int | float | bool]] = {
        OptionKind.STRING: str,
        OptionKind.INTEGER: int,
        OptionKind.NUMBER: float,
        OptionKind.BOOLEAN: bool,
    }
    name = definition["name"]
    try:
        converted = convert.get(kind, lambda v: str(int(v)))(value)
    except (TypeError, ValueError):
        raise invalid(["options", name], "OPTION_TYPE", f"{value!r} does not fit {name}") from None
    if choices := definition.get("choices"):
        if converted not in [choice["value"] for choice in choices]:
            raise invalid(["options", name], "OPTION_CHOICE", f"{converted!r} is no choice of {name}")
        return converted
    measure = len(converted) if isinstance(converted, str) else converted
    low_key, high_key = ("min_length", "max_length") if kind is OptionKind.STRING else ("min_value", "max_value")
    low, high = definition.get(low_key), definition.get(high_key)
    if (low is not None and measure < low) or (high is not None and measure > high):
        raise invalid(["options", name], "OPTION_RANGE", f"{name} must lie between {low} and {high}")
    return converted


def focused_option(options: list[Json]) -> Json | None:
    """The option somebody is typing in, however deep."""
    for option in options:
        if option.get("focused"):
            return option
        if (inner := focused_option(option.get("options") or [])) is not None:
            return inner
    return None


def submission(modal: Json, submitted: list[Json], resolved: Resolved) -> list[Json]:
    """The `components` of a modal submission, checked against the modal. Raises 50035."""
    values = {part["custom_id"]: part for part in _leaves(submitted)}
    return [_filled(component, values, resolved) for component in modal["components"]]


def _leaves(components: list[Json]) -> list[Json]:
    found = []
    for component in components:
        if component.get("custom_id"):
            found.append(component)
        found += _leaves(component.get("components") or [])
        if component.get("component"):
            found += _leaves([component["component"]])
    return found


def _filled(component: Json, values: dict[str, Json], resolved: Resolved) -> Json:
    shape: Json = {"type": component["type"], "id": component["id"]}
    if component["type"] == Kind.ACTION_ROW:
        return shape | {"components": [_filled(child, values, resolved) for child in component["components"]]}
    if component["type"] == Kind.LABEL:
        return shape | {"component": _filled(component["component"], values, resolved)}
    if component["type"] == Kind.TEXT_DISPLAY:
        return shape
    given = values.get(component["custom_id"], {})
    shape["custom_id"] = component["custom_id"]
    if component["type"] == Kind.TEXT_INPUT:
        return shape | {"value": _typed_text(component, str(given.get("value") or ""))}
    if component["type"] == Kind.CHECKBOX:
        return shape | {"value": bool(given.get("value"))}
    if component["type"] == Kind.RADIO_GROUP:
        return shape | {"value": given.get("value")}
    return shape | {"values": chosen_values(component, [str(v) for v in given.get("values") or []], resolved)}


def _typed_text(text_input: Json, text: str) -> str:
    name = text_input["custom_id"]
    if not text and text_input.get("required", True) is not False:
        raise invalid(["components", name], "BASE_TYPE_REQUIRED", "This field is required")
    low, high = text_input.get("min_length") or 0, text_input.get("max_length") or 4_000
    if text and not low <= len(text) <= high:
        raise invalid(["components", name], "BASE_TYPE_BAD_LENGTH", f"Must be between {low} and {high} in length.")
    return text


def chosen_values(select: Json, values: list[str], resolved: Resolved) -> list[str]:
    """What was chosen in a select or uploaded, checked and resolved. Raises 50035."""
    name = select["custom_id"]
    low = 1 if select.get("min_values") is None else select["min_values"]
    high = 1 if select.get("max_values") is None else select["max_values"]
    is_optional = select.get("required") is False
    if not (is_optional and not values) and not low <= len(values) <= high:
        raise invalid(["components", name], "SELECT_COUNT", f"Choose between {low} and {high}")
    if select["type"] in (Kind.STRING_SELECT, Kind.CHECKBOX_GROUP):
        offered = {option["value"] for option in select["options"]}
        if not set(values) <= offered:
            raise invalid(["components", name], "SELECT_VALUE", f"{sorted(set(values) - offered)} is not offered")
        return values
    kinds = {
        Kind.USER_SELECT: "user",
        Kind.ROLE_SELECT: "role",
        Kind.MENTIONABLE_SELECT: "mentionable",
        Kind.CHANNEL_SELECT: "channel",
        Kind.FILE_UPLOAD: "attachment",
    }
    resolved.all(kinds[Kind(select["type"])], [int(value) for value in values])
    return values
