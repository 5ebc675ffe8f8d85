"""What travels over the wire: JSON shapes, uploads, and Discord's errors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

#: JSON as Discord sends it. Its shapes are checked against Discord's OpenAPI description (spec.py), not by the type checker.
Json = dict[str, Any]


class Code(Enum):
    """Discord's own error codes: HTTP status, code, message. Source: developer docs, "Opcodes and Status Codes"."""

    GENERAL_NOT_FOUND = (404, 0, "404: Not Found")
    METHOD_NOT_ALLOWED = (405, 0, "405: Method Not Allowed")
    UNAUTHORIZED = (401, 0, "401: Unauthorized")
    UNKNOWN_CHANNEL = (404, 10003, "Unknown Channel")
    UNKNOWN_GUILD = (404, 10004, "Unknown Guild")
    UNKNOWN_MEMBER = (404, 10007, "Unknown Member")
    UNKNOWN_MESSAGE = (404, 10008, "Unknown Message")
    UNKNOWN_OVERWRITE = (404, 10009, "Unknown Overwrite")
    UNKNOWN_ROLE = (404, 10011, "Unknown Role")
    UNKNOWN_USER = (404, 10013, "Unknown User")
    UNKNOWN_WEBHOOK = (404, 10015, "Unknown Webhook")
    UNKNOWN_INTERACTION = (404, 10062, "Unknown interaction")
    UNKNOWN_COMMAND = (404, 10063, "Unknown application command")
    MAX_PINS = (400, 30003, "Maximum number of pins reached for this channel (250)")
    MAX_CHANNELS = (400, 30013, "Maximum number of guild channels reached (500)")
    MAX_COMMANDS = (400, 30032, "Maximum number of application commands reached (100).")
    MAX_COMMAND_CREATES = (400, 30034, "Max number of daily application command creates has been reached (200)")
    UPLOADS_LIMITED = (403, 400001, "Access to file uploads has been limited for this guild.")
    EXPLICIT_CONTENT = (400, 20009, "Explicit content cannot be sent to the desired recipient(s)")
    HARMFUL_LINK = (400, 240000, "Message blocked by harmful links filter.")
    CLOUDFLARE = (403, 40333, "internal network error")
    MAX_OLD_EDITS = (429, 30046, "Maximum number of edits to messages older than 1 hour reached. Try again later.")
    CHANNEL_WRITE_LIMIT = (429, 20028, "The channel you are writing has hit the write rate limit.")
    SERVER_WRITE_LIMIT = (
        429,
        20029,
        "The write action you are performing on the server has hit the write rate limit.",
    )
    TOO_LARGE = (413, 40005, "Request entity too large")
    ALREADY_ACKNOWLEDGED = (400, 40060, "Interaction has already been acknowledged.")
    MISSING_ACCESS = (403, 50001, "Missing Access")
    DM_ONLY_MISTAKE = (403, 50003, "Cannot execute action on a DM channel")
    NOT_THE_AUTHOR = (403, 50005, "Cannot edit a message authored by another user")
    EMPTY_MESSAGE = (400, 50006, "Cannot send an empty message")
    CANNOT_DM = (403, 50007, "Cannot send messages to this user")
    WRONG_CHANNEL_TYPE = (400, 50008, "Cannot send messages in a non-text channel")
    MISSING_PERMISSIONS = (403, 50013, "Missing Permissions")
    BULK_DELETE_COUNT = (400, 50016, "Provided too few or too many messages to delete. Must provide at least 2 and at most 100.")
    BULK_DELETE_TOO_OLD = (400, 50034, "You can only bulk delete messages that are under 14 days old.")
    INVALID_WEBHOOK_TOKEN = (401, 50027, "Invalid Webhook Token")
    TWO_FACTOR_REQUIRED = (403, 60003, "Two factor is required for this operation")
    INVALID_FORM = (400, 50035, "Invalid Form Body")
    BAD_JSON = (400, 50109, "The request body contains invalid JSON.")


class ApiError(Exception):
    """A refusal in Discord's words; the dispatcher turns it into the HTTP reply."""

    def __init__(self, code: Code, *, errors: Json | None = None, extra: Mapping[str, object] | None = None) -> None:
        self.status, self.code, self.message = code.value
        self.known = code
        self.errors = errors
        self.extra = dict(extra or {})
        super().__init__(f"{self.code}: {self.message}")

    def body(self) -> Json:
        """The JSON body Discord sends with this error."""
        body: Json = {"message": self.message, "code": self.code}
        if self.errors:
            body["errors"] = self.errors
        return body | self.extra


class FormErrors:
    """Collects what is wrong with a form in Discord's nested shape (`errors.content._errors[0].code`)."""

    def __init__(self) -> None:
        self._tree: Json = {}

    def add(self, path: Sequence[str | int], code: str, message: str) -> None:
        """Note one mistake at `path`."""
        node = self._tree
        for step in path:
            node = node.setdefault(str(step), {})
        node.setdefault("_errors", []).append({"code": code, "message": message})

    def __bool__(self) -> bool:
        return bool(self._tree)

    def raise_if_any(self) -> None:
        """Raise 50035 when at least one mistake was noted."""
        if self._tree:
            raise ApiError(Code.INVALID_FORM, errors=self._tree)

    def check_length(self, path: Sequence[str | int], value: object, low: int, high: int) -> None:
        """Note a text that is not one or is outside `low..high` characters."""
        if not isinstance(value, str):
            self.add(path, "BASE_TYPE_REQUIRED", "This field is required")
        elif not low <= len(value) <= high:
            if low:
                self.add(path, "BASE_TYPE_BAD_LENGTH", f"Must be between {low} and {high} in length.")
            else:
                self.add(path, "BASE_TYPE_MAX_LENGTH", f"Must be {high} or fewer in length.")


def invalid(path: Sequence[str | int], code: str, message: str) -> ApiError:
    """A 50035 with a single mistake."""
    errors = FormErrors()
    errors.add(path, code, message)
    return ApiError(Code.INVALID_FORM, errors=errors._tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One file of a multipart request."""

    field: str  #: `files[3]` as sent
    filename: str
    data: bytes

    @property
    def index(self) -> str:
        """The `3` of `files[3]`: how the JSON half of the form refers to this file."""
        return self.field.removeprefix("files[").removesuffix("]")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers; `body=None` means an empty 204."""

    body: Json | list[Json] | None = None
    status: int = 200


def encode(value: object) -> bytes:
    """Compact UTF-8 JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def snowflake(value: object, *, path: str = "id") -> int:
    """Read an id from a URL or form; Discord takes strings and whole numbers alike. Raises 50035 for anything else."""
    text = str(value)
    if isinstance(value, bool) or not text.isdecimal() or len(text) > 20:
        raise invalid([path], "NUMBER_TYPE_COERCE", f'Value "{text}" is not snowflake.')
    return int(text)
