"""What a person sees on the screen: messages, components, modals, channels, as objects that tests can read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

Json = dict[str, Any]

EPHEMERAL, LOADING = 1 << 6, 1 << 7
ROW, BUTTON, STRING_SELECT, TEXT_INPUT, TEXT_DISPLAY, THUMBNAIL, GALLERY, FILE, CONTAINER = 1, 2, 3, 4, 10, 11, 12, 13, 17
SELECTS = (3, 5, 6, 7, 8)


def walk(components: list[Json]) -> Iterator[Json]:
    """Every component, parents first."""
    for component in components:
        yield component
        yield from walk(component.get("components") or [])
        yield from walk([component[k] for k in ("accessory", "component") if component.get(k)])


@dataclass(frozen=True)
class Button:
    """A button as it is drawn."""

    custom_id: str | None
    label: str  #: text, or the emoji of a button without text
    disabled: bool
    style: int
    url: str | None

    @classmethod
    def of(cls, shape: Json) -> "Button":
        emoji = (shape.get("emoji") or {}).get("name") or ""
        return cls(
            custom_id=shape.get("custom_id"),
            label=shape.get("label") or emoji,
            disabled=bool(shape.get("disabled")),
            style=shape["style"],
            url=shape.get("url"),
        )


@dataclass(frozen=True)
class Select:
    """A select menu; `options` are `(label, value)` and empty for selects of users, roles and channels."""

    custom_id: str
    placeholder: str
    type: int
    disabled: bool
    options: tuple[tuple[str, str], ...]
    chosen: tuple[str, ...]

    @classmethod
    def of(cls, shape: Json) -> "Select":
        options = shape.get("options") or []
        return cls(
            custom_id=shape["custom_id"],
            placeholder=shape.get("placeholder") or "",
            type=shape["type"],
            disabled=bool(shape.get("disabled")),
            options=tuple((o["label"], o["value"]) for o in options),
            chosen=tuple(o["value"] for o in options if o.get("default")),
        )


@dataclass(frozen=True)
class Uploaded:
    """A file this person has uploaded."""

    id: str
    filename: str
    size: int
    url: str


@dataclass(frozen=True)
class Attached:
    """A file on a message."""

    id: str
    filename: str
    size: int | None  #: of a picture in a component nobody is told
    url: str
    content_type: str
    width: int | None
    height: int | None

    @classmethod
    def of(cls, shape: Json) -> "Attached":
        known = {name: shape[name] for name in ("id", "filename", "size", "url", "content_type")}
        return cls(width=shape.get("width"), height=shape.get("height"), **known)

    @classmethod
    def shown(cls, media: Json, *, name: str | None = None, size: int | None = None) -> "Attached":
        """A file that a component shows: such files are not among the message's `attachments`."""
        return cls(
            id=media.get("attachment_id") or media["id"],
            filename=name or unquote(urlsplit(media["url"]).path.rsplit("/", 1)[-1]),
            size=size,
            url=media["url"],
            content_type=media.get("content_type") or "",
            width=media.get("width"),
            height=media.get("height"),
        )


def _shown_files(components: list[Json]) -> Iterator[Attached]:
    """The files behind galleries, thumbnails and file components, in reading order."""
    for component in walk(components):
        if component["type"] == GALLERY:
            yield from (Attached.shown(item["media"]) for item in component["items"])
        elif component["type"] == THUMBNAIL:
            yield Attached.shown(component["media"])
        elif component["type"] == FILE:
            yield Attached.shown(component["file"], name=component["name"], size=component["size"])


class Seen:
    """A message on the screen."""

    def __init__(self, shape: Json) -> None:
        self.raw = shape
        self.id: str = shape["id"]
        self.channel_id: str = shape["channel_id"]
        self.content: str = shape["content"]
        self.author: str = shape["author"]["username"]
        self.by_bot: bool = bool(shape["author"].get("bot"))
        self.components: list[Json] = shape["components"]
        self.flags: int = shape.get("flags", 0)
        self.mentions: list[str] = [user["id"] for user in shape["mentions"]]
        self.mentions_everyone: bool = shape["mention_everyone"]
        every = [*_shown_files(self.components), *(Attached.of(a) for a in shape["attachments"])]
        self.files: list[Attached] = list({one.id: one for one in reversed(every)}.values())[::-1]
        self.is_edited = shape["edited_timestamp"] is not None

    @property
    def is_ephemeral(self) -> bool:
        """Only visible to this person."""
        return bool(self.flags & EPHEMERAL)

    @property
    def is_loading(self) -> bool:
        """The bot "is thinking..."."""
        return bool(self.flags & LOADING)

    @property
    def text(self) -> str:
        """All words on it, top to bottom: content, embeds, text displays."""
        parts = [self.content]
        for embed in self.raw["embeds"]:
            parts += [embed.get("title") or "", embed.get("description") or ""]
            parts += [f"{field['name']} {field['value']}" for field in embed.get("fields") or []]
            parts.append((embed.get("footer") or {}).get("text") or "")
        parts += [c["content"] for c in walk(self.components) if c["type"] == TEXT_DISPLAY]
        return "\n".join(part for part in parts if part)

    @property
    def accent(self) -> int | None:
        """The colour of its (first) container."""
        return next((c.get("accent_color") for c in walk(self.components) if c["type"] == CONTAINER), None)

    @property
    def buttons(self) -> list[Button]:
        """All buttons, in reading order."""
        return [Button.of(c) for c in walk(self.components) if c["type"] == BUTTON]

    def button(self, which: str) -> Button:
        """The button with this label, custom id, or a label that contains it."""
        exact = (b for b in self.buttons if which in (b.label, b.custom_id))
        alike = (b for b in self.buttons if which.casefold() in b.label.casefold())
        if found := next(exact, None) or next(alike, None):
            return found
        raise AssertionError(f"no button {which!r} on: {self}")

    @property
    def selects(self) -> list[Select]:
        """All select menus, in reading order."""
        return [Select.of(c) for c in walk(self.components) if c["type"] in SELECTS]

    def select(self, which: str) -> Select:
        """The select with this custom id or placeholder."""
        for found in self.selects:
            if which == found.custom_id or which.casefold() in found.placeholder.casefold():
                return found
        raise AssertionError(f"no select {which!r} on: {self}")

    @property
    def pictures(self) -> list[str]:
        """Addresses of the pictures it shows: galleries, thumbnails, embeds; plain attachments where there are no components."""
        shown: list[str] = []
        for component in walk(self.components):
            if component["type"] == GALLERY:
                shown += [item["media"]["url"] for item in component["items"]]
            elif component["type"] == THUMBNAIL:
                shown.append(component["media"]["url"])
        shown += [embed["image"]["url"] for embed in self.raw["embeds"] if embed.get("image")]
        if not self.components:
            shown += [file.url for file in self.files if file.content_type.startswith("image/")]
        return shown

    def __str__(self) -> str:
        marks = [name for name, on in (("ephemeral", self.is_ephemeral), ("loading", self.is_loading)) if on]
        buttons = " ".join(f"[{b.label}{' (off)' if b.disabled else ''}]" for b in self.buttons)
        selects = " ".join(f"<{s.placeholder or s.custom_id}>" for s in self.selects)
        head = f"{self.author} in {self.channel_id}{' (' + ', '.join(marks) + ')' if marks else ''}"
        return f"{head}: {self.text!r} {buttons} {selects} {len(self.pictures)} pictures".rstrip()

    __repr__ = __str__


class Modal:
    """An open modal."""

    def __init__(self, shape: Json) -> None:
        self.interaction_id: str = shape["interaction_id"]
        self.title: str = shape["title"]
        self.custom_id: str = shape["custom_id"]
        self.components: list[Json] = shape["components"]

    @property
    def fields(self) -> dict[str, Json]:
        """Its inputs by custom id, each with the `label` written above it."""
        found: dict[str, Json] = {}
        for component in walk(self.components):
            inner = component.get("component") or component
            if inner.get("custom_id"):
                label = component.get("label") or inner.get("label") or ""
                found.setdefault(inner["custom_id"], inner | {"label": label})
        return found

    @property
    def text(self) -> str:
        """The words between the inputs."""
        return "\n".join(c["content"] for c in walk(self.components) if c["type"] == TEXT_DISPLAY)

    @property
    def hints(self) -> list[str]:
        """The small print under the labels."""
        return [component["description"] for component in walk(self.components) if component.get("description")]

    @property
    def typed(self) -> dict[str, Any]:
        """What it is prefilled with: texts by custom id, chosen options for selects."""
        filled: dict[str, Any] = {}
        for custom_id, inner in self.fields.items():
            if inner["type"] == TEXT_INPUT:
                filled[custom_id] = inner.get("value") or ""
            elif inner["type"] == STRING_SELECT:
                filled[custom_id] = [o["value"] for o in inner["options"] if o.get("default")]
        return filled

    def field_id(self, which: str) -> str:
        """The custom id of the input with this custom id or label."""
        for custom_id, inner in self.fields.items():
            if which == custom_id or which.casefold() == str(inner["label"]).casefold():
                return custom_id
        raise AssertionError(f"no input {which!r} in modal {self.title!r}: {list(self.fields)}")


@dataclass(frozen=True)
class ChannelView:
    """A channel in this person's list."""

    id: str
    name: str
    type: int
    parent_id: str | None
    topic: str | None
    raw: Json

    @classmethod
    def of(cls, shape: Json) -> "ChannelView":
        return cls(
            id=shape["id"],
            name=shape["name"],
            type=shape["type"],
            parent_id=shape.get("parent_id"),
            topic=shape.get("topic"),
            raw=shape,
        )


@dataclass(frozen=True)
class Choice:
    """A suggestion of autocomplete."""

    name: str
    value: str | int | float


@dataclass(frozen=True)
class Answer:
    """What became of something this person did."""

    interaction_id: str
    failed: bool  #: "The application did not respond"
    deferred: bool  #: "is thinking..." was shown first
    message: Seen | None
    modal: Modal | None
    seconds: float  #: from the act to the first answer

    @property
    def text(self) -> str:
        """The words of the answering message."""
        assert self.message is not None, "the bot answered without a message"
        return self.message.text
