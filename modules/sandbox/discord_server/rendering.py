"""How components and embeds come back from Discord: numbered, with defaults filled in and files resolved."""

from collections.abc import Callable

from modules.sandbox.discord_server.clock import Snowflakes
from modules.sandbox.discord_server.components import SELECTS, Kind, walk
from modules.sandbox.discord_server.wire import Json
from modules.sandbox.discord_server.world import Attachment

#: Where each component carries media: `(field, holder)`; galleries carry theirs inside `items`.
_MEDIA = {Kind.THUMBNAIL: "media", Kind.FILE: "file"}


class Renderer:
    """Turns the components of one request into what a message shows."""

    def __init__(self, ids: Snowflakes, attachments: list[Attachment]) -> None:
        self._ids = ids
        self._by_name = {attachment.filename: attachment for attachment in attachments}
        self._next = 0
        self._taken: set[int] = set()
        self._fill: dict[int, Callable[[Json], Json]] = {
            Kind.THUMBNAIL: lambda c: {"description": c.get("description"), "spoiler": bool(c.get("spoiler"))},
            Kind.SEPARATOR: lambda c: {
                "spacing": c.get("spacing") or 1,
                "divider": True if c.get("divider") is None else c["divider"],
            },
            Kind.CONTAINER: lambda c: {"accent_color": c.get("accent_color"), "spoiler": bool(c.get("spoiler"))},
            Kind.BUTTON: _emoji_alone,
            Kind.FILE: self._file_details,
            Kind.TEXT_INPUT: lambda c: {name: c.get(name) for name in ("label", "min_length", "max_length")},
            **dict.fromkeys(SELECTS, _select_defaults),
        }

    def components(self, components: list[Json]) -> list[Json]:
        """The whole tree, every component with an id: the given ones stay, the others are counted up from 1."""
        self._taken = {int(c["id"]) for c in walk(components) if c.get("id")}
        return [self._one(component) for component in components]

    def _one(self, component: Json) -> Json:
        kind = component["type"]
        shape = {"type": kind, "id": self._number(component)}
        shape |= {name: value for name, value in component.items() if value is not None and name != "id"}
        if fill := self._fill.get(kind):
            shape |= fill(component)
        if component.get("components"):
            shape["components"] = [self._one(child) for child in component["components"]]
        for single in ("accessory", "component"):
            if component.get(single):
                shape[single] = self._one(component[single])
        if kind in _MEDIA:
            shape[_MEDIA[kind]] = self._media(component[_MEDIA[kind]])
        if kind == Kind.MEDIA_GALLERY:
            shape["items"] = [self._gallery_item(item) for item in component["items"]]
        return shape

    def _number(self, component: Json) -> int:
        if component.get("id"):
            return int(component["id"])
        self._next += 1
        while self._next in self._taken:
            self._next += 1
        return self._next

    def _gallery_item(self, item: Json) -> Json:
        return {
            "media": self._media(item["media"]),
            "description": item.get("description"),
            "spoiler": bool(item.get("spoiler")),
        }

    def _file_details(self, component: Json) -> Json:
        attachment = self._by_name.get(component["file"]["url"].removeprefix("attachment://"))
        return {
            "name": attachment.filename if attachment else None,
            "size": attachment.size if attachment else None,
            "spoiler": bool(component.get("spoiler")),
        }

    def _media(self, media: Json) -> Json:
        attachment = self._by_name.get(media["url"].removeprefix("attachment://"))
        if attachment is None or not media["url"].startswith("attachment://"):
            return {"id": str(self._ids.next()), "url": media["url"], "proxy_url": media["url"], "loading_state": 2, "flags": 0}
        return {
            "id": str(self._ids.next()),
            "url": attachment.url,
            "proxy_url": attachment.url,
            "width": attachment.width,
            "height": attachment.height,
            "content_type": attachment.content_type,
            "attachment_id": str(attachment.id),
            "loading_state": 2,
            "flags": 0,
        }

    def embeds(self, embeds: list[Json]) -> list[Json]:
        """Embeds with `attachment://` resolved and empty fields left out."""
        return [self._embed(embed) for embed in embeds]

    def _embed(self, embed: Json) -> Json:
        shape: Json = {name: value for name, value in embed.items() if value is not None} | {"type": "rich"}
        for name in ("image", "thumbnail"):
            if shape.get(name):
                shape[name] = self._embed_image(shape[name])
        if shape.get("fields"):
            shape["fields"] = [{"inline": False} | field for field in shape["fields"]]
        return shape

    def _embed_image(self, image: Json) -> Json:
        attachment = self._by_name.get(str(image.get("url", "")).removeprefix("attachment://"))
        if attachment is None:
            return {"url": image["url"], "proxy_url": image["url"]}
        size = {"width": attachment.width, "height": attachment.height} if attachment.width else {}
        return {"url": attachment.url, "proxy_url": attachment.url} | size


def _emoji_alone(holder: Json) -> Json:
    """The emoji of a button or option, if it has one; Discord leaves out what an emoji of Unicode does not have."""
    emoji = holder.get("emoji")
    return {"emoji": {name: value for name, value in emoji.items() if value is not None}} if emoji else {}


def _select_defaults(select: Json) -> Json:
    low, high = select.get("min_values"), select.get("max_values")
    filled: Json = {"min_values": 1 if low is None else low, "max_values": 1 if high is None else high}
    if select["type"] == Kind.STRING_SELECT:
        filled["options"] = [
            {name: value for name, value in option.items() if value is not None} | _emoji_alone(option)
            for option in select["options"]
        ]
    return filled
