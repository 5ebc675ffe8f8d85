"""Checks requests and replies against Discord's official OpenAPI description.

The description is Discord's (`discord/discord-api-spec`) and is not part of this repository: its place is given by argument, by
`DISCORD_OPENAPI`, or it lies beside the repository in `../shared/discord/`. Without it the check is off and says so.

Two rules of that repository's README shape what follows: its unions are plain unions (we choose the branch by `type`, which also
makes the check quick and its messages readable), and numbers in requests may come as text.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from modules.sandbox.discord_server.wire import Json

REPOSITORY = Path(__file__).resolve().parents[3]
BESIDE_REPOSITORY = REPOSITORY.parent / "shared" / "discord" / "openapi.json"
#: Mistakes reported of one request or reply; the rest adds nothing.
MOST_MESSAGES = 5
#: Where the description errs. Form errors carry words as codes ("BASE_TYPE_MAX_LENGTH"), as the developer docs show in
#: "Reference, Error Messages" and as Discord answers; the description asks for numbers there.
ERRATA: Json = {
    "InnerErrors": {
        "type": "object",
        "required": ["_errors"],
        "additionalProperties": False,
        "properties": {
            "_errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["code", "message"],
                    "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
                },
            }
        },
    }
}


class _Validator(Protocol):
    def iter_errors(self, instance: object) -> Iterator[Any]: ...


class Spec:
    """Checks exchanges against a description; off without one."""

    def __init__(self, description: "Description | None") -> None:
        self._description = description

    @classmethod
    def find(cls, path: Path | str | None = None) -> Self:
        """The description from `path`, `DISCORD_OPENAPI`, or beside the repository; off when there is none.

        Raises `FileNotFoundError` for a path that was named and does not exist.
        """
        named = path or os.environ.get("DISCORD_OPENAPI")
        place = Path(named) if named else BESIDE_REPOSITORY
        if not named and not place.exists():
            return cls(None)
        return cls(_read(place.resolve(strict=True)))

    @property
    def is_on(self) -> bool:
        """Whether there is a description to check against."""
        return self._description is not None

    def check(self, method: str, path: str, body: bytes | None, status: int, reply: bytes | None) -> Iterator[tuple[str, str]]:
        """What is wrong with one exchange, as `(kind, message)` with kind `request` or `reply`.

        A request that Discord refused (4xx) may well be malformed and is not reported again here.
        """
        description = self._description
        if description is None or status == 0:
            return
        operation = description.operation(method, path)
        if operation is None:
            yield "request", "Discord has no such route"
            return
        if body is not None and status < 400:
            yield from (("request", problem) for problem in description.request_problems(operation, body))
        if status < 500 and reply:
            yield from (("reply", problem) for problem in description.reply_problems(operation, status, reply))


class Operation(NamedTuple):
    """One method of one route, as the description names it."""

    template: str
    method: str


class Description:
    """Discord's description, compiled operation by operation when one is first seen."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._paths = _compile_paths(document)
        self._validators: dict[tuple[Operation, str], _Validator | None] = {}

    def operation(self, method: str, path: str) -> Operation | None:
        """The operation behind a request; `None` when Discord has none."""
        for pattern, template in self._paths:
            if pattern.fullmatch(path):
                known = method.lower() in self._document["paths"][template]
                return Operation(template, method.lower()) if known else None
        return None

    def request_problems(self, operation: Operation, body: bytes) -> Iterator[str]:
        """What is wrong with a request's JSON."""
        if validator := self._validator(operation, "request"):
            yield from _problems(validator, body)

    def reply_problems(self, operation: Operation, status: int, body: bytes) -> Iterator[str]:
        """What is wrong with a reply."""
        if validator := self._validator(operation, str(status)):
            yield from _problems(validator, body)
        else:
            yield f"Discord never answers {status} here"

    def _validator(self, operation: Operation, what: str) -> "_Validator | None":
        if (operation, what) not in self._validators:
            self._validators[operation, what] = self._compile(operation, what)
        return self._validators[operation, what]

    def _compile(self, operation: Operation, what: str) -> "_Validator | None":
        details = self._document["paths"][operation.template][operation.method]
        if what == "request":
            content = details.get("requestBody", {}).get("content", {})
            schema = content.get("application/json", content.get("multipart/form-data", {})).get("schema")
        else:
            schema = _reply_schema(self._document, details["responses"], what)
        is_lenient = what == "request"
        return _validator(schema, self._document, self._components(is_lenient), lenient=is_lenient) if schema else None

    @cache  # noqa: B019 - descriptions are few and live as long as the process
    def _components(self, lenient: bool) -> Json:
        components: Json = _narrowed(self._document["components"], self._document) | {}
        components["schemas"] = components["schemas"] | ERRATA
        if lenient:  # libraries send ids as text or as numbers
            text = components["schemas"]["SnowflakeType"]
            components["schemas"]["SnowflakeType"] = {"anyOf": [text, {"type": "integer", "minimum": 0}]}
        return components


@cache
def _read(place: Path) -> Description:
    return Description(json.loads(place.read_bytes()))


def _problems(validator: "_Validator", data: bytes) -> Iterator[str]:
    for error in islice(validator.iter_errors(json.loads(data)), MOST_MESSAGES):
        place = "/".join(str(step) for step in error.absolute_path)
        yield f"{place or '(root)'}: {error.message[:300]}"


def _reply_schema(document: Json, responses: Json, status: str) -> Json | None:
    found = responses.get(status) or responses.get(f"{status[0]}XX")
    if found is None:
        return None
    if reference := found.get("$ref"):
        found = document["components"]["responses"][reference.rsplit("/", 1)[1]]
    schema: Json | None = found.get("content", {}).get("application/json", {}).get("schema")
    return schema


def _compile_paths(document: Json) -> list[tuple[re.Pattern[str], str]]:
    """Paths as patterns, the most literal first, so that `/users/@me` wins over `/users/{user_id}`."""
    ordered = sorted(document["paths"], key=lambda template: template.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", template)), template) for template in ordered]


def _validator(schema: Json, document: Json, components: Json, *, lenient: bool) -> _Validator:
    # Imported here: the stand-in itself needs only aiohttp; jsonschema comes with the development tools.
    from jsonschema import Draft202012Validator, FormatChecker
    from jsonschema.validators import extend

    checker = Draft202012Validator.TYPE_CHECKER
    if lenient:
        checker = checker.redefine("integer", _is_integer_or_text_of_one)
    kind = extend(Draft202012Validator, type_checker=checker)  # type: ignore[no-untyped-call]  # jsonschema's stubs
    rooted = _narrowed(schema, document) | {"components": components}
    validator: _Validator = kind(rooted, format_checker=_formats(FormatChecker(formats=())))
    return validator


def _formats(checker: Any) -> Any:
    """The formats that matter, without the extra packages jsonschema would want for them."""

    @checker.checks("date-time", raises=ValueError)  # type: ignore[untyped-decorator]  # as above
    def is_moment(value: object) -> bool:
        return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None

    @checker.checks("uri")  # type: ignore[untyped-decorator]  # as above
    def is_address(value: object) -> bool:
        return not isinstance(value, str) or re.match(r"[a-z][a-z0-9+.-]*:\S", value, re.IGNORECASE) is not None

    return checker


def _is_integer_or_text_of_one(_: object, value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"-?\d+", value) is not None
    return isinstance(value, int) and not isinstance(value, bool)


def _narrowed(node: Any, document: Json) -> Any:
    """The schema with its unions of typed objects turned into "if the type is X, then it must be an X"."""
    if isinstance(node, list):
        return [_narrowed(item, document) for item in node]
    if not isinstance(node, Mapping):
        return node
    result = {name: _narrowed(value, document) for name, value in node.items()}
    branches = node.get("oneOf") or node.get("anyOf")
    if isinstance(branches, list) and (typed := _by_type(branches, document)):
        for union in ("oneOf", "anyOf"):
            result.pop(union, None)
        allowed = sorted({value for values, _ in typed for value in values})
        result["allOf"] = [
            *result.get("allOf", []),
            {"type": "object", "required": ["type"], "properties": {"type": {"enum": allowed}}},
            *(
                {"if": {"properties": {"type": {"enum": values}}}, "then": _narrowed(branch, document)}
                for values, branch in typed
            ),
        ]
    elif "oneOf" in result:  # overlapping branches are fine: plain unions
        result["anyOf"] = result.pop("oneOf")
    return result


def _by_type(branches: list[Json], document: Json) -> list[tuple[list[int], Json]] | None:
    """Each branch with the values of its `type`; `None` when a branch has no such mark or two share one."""
    typed = []
    seen: set[int] = set()
    for branch in branches:
        target = branch
        if reference := branch.get("$ref"):
            target = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
        values = target.get("properties", {}).get("type", {}).get("enum")
        if not values or seen & set(values):
            return None
        seen |= set(values)
        typed.append((values, branch))
    return typed
