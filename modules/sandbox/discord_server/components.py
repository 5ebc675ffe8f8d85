"""Message and modal components: what Discord accepts of them.

Source: developer docs, "Component Reference".
"""

from collections.abc import Callable, Iterator
from enum import IntEnum

from modules.sandbox.discord_server.wire import FormErrors, Json


class Kind(IntEnum):
    """Component types."""

    ACTION_ROW = 1
    BUTTON = 2
    STRING_SELECT = 3
    TEXT_INPUT = 4
    USER_SELECT = 5
    ROLE_SELECT = 6
    MENTIONABLE_SELECT = 7
    CHANNEL_SELECT = 8
    SECTION = 9
    TEXT_DISPLAY = 10
    THUMBNAIL = 11
    MEDIA_GALLERY = 12
    FILE = 13
    SEPARATOR = 14
    CONTAINER = 17
    LABEL = 18
    FILE_UPLOAD = 19
    RADIO_GROUP = 21
    CHECKBOX_GROUP = 22
    CHECKBOX = 23


MAX_COMPONENTS = 40
MAX_TEXT = 4_000
MAX_CUSTOM_ID = 100
MAX_ROWS = 5
MAX_BUTTONS_IN_ROW = 5
MAX_OPTIONS = 25
MAX_GALLERY_ITEMS = 10
MAX_MODAL_COMPONENTS = 5
MAX_MODAL_TITLE = 45
MAX_LABEL = 45

SELECTS = frozenset({Kind.STRING_SELECT, Kind.USER_SELECT, Kind.ROLE_SELECT, Kind.MENTIONABLE_SELECT, Kind.CHANNEL_SELECT})
_IN_LABEL = SELECTS | {Kind.TEXT_INPUT, Kind.FILE_UPLOAD, Kind.RADIO_GROUP, Kind.CHECKBOX_GROUP, Kind.CHECKBOX}
_IN_CONTAINER = frozenset({Kind.ACTION_ROW, Kind.SECTION, Kind.TEXT_DISPLAY, Kind.MEDIA_GALLERY, Kind.FILE, Kind.SEPARATOR})
_IN_V2_MESSAGE = _IN_CONTAINER | {Kind.CONTAINER}
_LINK, _PREMIUM = 5, 6

Path = tuple[str | int, ...]


def walk(components: list[Json]) -> Iterator[Json]:
    """Every component of a tree, parents first."""
    for component in components:
        yield component
        yield from walk(component.get("components") or [])
        for single in ("accessory", "component"):
            if component.get(single):
                yield from walk([component[single]])


def find(components: list[Json], custom_id: str) -> Json | None:
    """The component with this custom id."""
    return next((c for c in walk(components) if c.get("custom_id") == custom_id), None)


def texts(components: list[Json]) -> list[str]:
    """What the text displays say."""
    return [c["content"] for c in walk(components) if c["type"] == Kind.TEXT_DISPLAY]


def media_of(components: list[Json]) -> list[Json]:
    """Every media item that the components show: thumbnails, gallery items and files."""
    found: list[Json] = []
    for component in walk(components):
        match component["type"]:
            case Kind.THUMBNAIL:
                found.append(component["media"])
            case Kind.MEDIA_GALLERY:
                found += [item["media"] for item in component["items"]]
            case Kind.FILE:
                found.append(component["file"])
    return found


class Inspector:
    """Checks one tree of components and notes every mistake."""

    def __init__(self, errors: FormErrors, *, filenames: frozenset[str] = frozenset()) -> None:
        self._errors = errors
        self._filenames = filenames
        self._custom_ids: set[str] = set()
        self._checks: dict[int, Callable[[Json, Path], None]] = {
            Kind.ACTION_ROW: self._action_row,
            Kind.BUTTON: self._button,
            Kind.TEXT_INPUT: self._text_input,
            Kind.SECTION: self._section,
            Kind.TEXT_DISPLAY: self._text_display,
            Kind.THUMBNAIL: self._thumbnail,
            Kind.MEDIA_GALLERY: self._gallery,
            Kind.FILE: self._file,
            Kind.CONTAINER: self._container,
            Kind.LABEL: self._label,
            Kind.FILE_UPLOAD: self._custom_id,
            Kind.RADIO_GROUP: self._custom_id,
            Kind.CHECKBOX_GROUP: self._custom_id,
            Kind.CHECKBOX: self._custom_id,
            **dict.fromkeys(SELECTS, self._select),
        }

    def message(self, components: list[Json], *, v2: bool) -> None:
        """Check the components of a message."""
        allowed = _IN_V2_MESSAGE if v2 else frozenset({Kind.ACTION_ROW})
        if not v2 and len(components) > MAX_ROWS:
            self._errors.add(["components"], "BASE_TYPE_BAD_LENGTH", f"Must be between 1 and {MAX_ROWS} in length.")
        self._children(components, ("components",), allowed)
        self._totals(components)

    def modal(self, data: Json) -> None:
        """Check a modal."""
        self._errors.check_length(["data", "title"], data.get("title"), 1, MAX_MODAL_TITLE)
        self._errors.check_length(["data", "custom_id"], data.get("custom_id"), 1, MAX_CUSTOM_ID)
        components = data.get("components") or []
        if not 1 <= len(components) <= MAX_MODAL_COMPONENTS:
            message = f"Must be between 1 and {MAX_MODAL_COMPONENTS} in length."
            self._errors.add(["data", "components"], "BASE_TYPE_BAD_LENGTH", message)
        self._children(components, ("data", "components"), frozenset({Kind.ACTION_ROW, Kind.LABEL, Kind.TEXT_DISPLAY}))

    def _totals(self, components: list[Json]) -> None:
        everything = list(walk(components))
        if len(everything) > MAX_COMPONENTS:
            message = f"Total number of components cannot exceed {MAX_COMPONENTS}"
            self._errors.add(["components"], "COMPONENT_MAX_TOTAL_COMPONENTS_EXCEEDED", message)
        text = sum(len(str(c.get("content") or "")) for c in everything if c.get("type") == Kind.TEXT_DISPLAY)
        if text > MAX_TEXT:
            message = f"Combined text size of all components cannot exceed {MAX_TEXT}"
            self._errors.add(["components"], "COMPONENT_DISPLAYABLE_TEXT_SIZE_EXCEEDED", message)

    def _children(self, children: list[Json], path: Path, allowed: frozenset[Kind]) -> None:
        for index, child in enumerate(children):
            self._one(child, (*path, index), allowed)

    def _one(self, component: Json, path: Path, allowed: frozenset[Kind]) -> None:
        kind = component.get("type")
        if kind not in allowed:
            message = f'Value of field "type" must be one of ({", ".join(str(int(k)) for k in sorted(allowed))}).'
            self._errors.add((*path, "type"), "UNION_TYPE_CHOICES", message)
            return
        if check := self._checks.get(kind):
            check(component, path)

    def _custom_id(self, component: Json, path: Path) -> None:
        custom_id = component.get("custom_id")
        self._errors.check_length((*path, "custom_id"), custom_id, 1, MAX_CUSTOM_ID)
        if not isinstance(custom_id, str):
            return
        if custom_id in self._custom_ids:
            self._errors.add((*path, "custom_id"), "COMPONENT_CUSTOM_ID_DUPLICATED", "Component custom id cannot be duplicated")
        self._custom_ids.add(custom_id)

    def _action_row(self, row: Json, path: Path) -> None:
        children = row.get("components") or []
        kinds = {child.get("type") for child in children}
        path = (*path, "components")
        if not children or len(children) > MAX_BUTTONS_IN_ROW:
            self._errors.add(path, "BASE_TYPE_BAD_LENGTH", f"Must be between 1 and {MAX_BUTTONS_IN_ROW} in length.")
        if kinds & (SELECTS | {Kind.TEXT_INPUT}) and len(children) > 1:
            self._errors.add(path, "COMPONENT_LAYOUT_WIDTH_EXCEEDED", "The specified component exceeds the maximum width")
        self._children(children, path, SELECTS | {Kind.BUTTON, Kind.TEXT_INPUT})

    def _button(self, button: Json, path: Path) -> None:
        style = button.get("style")
        if style not in range(1, 7):
            self._errors.add((*path, "style"), "BASE_TYPE_CHOICES", "Value must be one of (1, 2, 3, 4, 5, 6).")
        label = button.get("label")
        if label is not None:
            self._errors.check_length((*path, "label"), label, 0, 80)
        if not label and not button.get("emoji") and style != _PREMIUM:
            self._errors.add((*path, "label"), "BUTTON_COMPONENT_MISSING_LABEL", "A button must have a label or an emoji")
        if style == _LINK:
            self._errors.check_length((*path, "url"), button.get("url"), 1, 512)
            if button.get("custom_id"):
                self._errors.add((*path, "custom_id"), "BUTTON_COMPONENT_CUSTOM_ID_NOT_ALLOWED", "Link buttons have no custom id")
        elif style != _PREMIUM:
            self._custom_id(button, path)

    def _select(self, select: Json, path: Path) -> None:
        self._custom_id(select, path)
        if select.get("placeholder") is not None:
            self._errors.check_length((*path, "placeholder"), select["placeholder"], 0, 150)
        if select["type"] == Kind.STRING_SELECT:
            self._options(select, (*path, "options"))
        low, high = select.get("min_values"), select.get("max_values")
        if low is not None and high is not None and low > high:
            self._errors.add((*path, "min_values"), "SELECT_COMPONENT_MIN_OVER_MAX", "min_values cannot exceed max_values")

    def _options(self, select: Json, path: Path) -> None:
        options = select.get("options") or []
        if not 1 <= len(options) <= MAX_OPTIONS:
            self._errors.add(path, "BASE_TYPE_BAD_LENGTH", f"Must be between 1 and {MAX_OPTIONS} in length.")
        seen: set[str] = set()
        for index, option in enumerate(options):
            self._errors.check_length((*path, index, "label"), option.get("label"), 1, 100)
            self._errors.check_length((*path, index, "value"), option.get("value"), 1, 100)
            if option.get("description") is not None:
                self._errors.check_length((*path, index, "description"), option["description"], 0, 100)
            if option.get("value") in seen:
                message = "The specified option value is already used"
                self._errors.add((*path, index, "value"), "SELECT_COMPONENT_OPTION_VALUE_DUPLICATED", message)
            seen.add(str(option.get("value")))
        if len(options) < int(select.get("max_values") or 1):
            self._errors.add((*path[:-1], "max_values"), "BASE_TYPE_MAX", "max_values exceeds the number of options")

    def _text_input(self, text_input: Json, path: Path) -> None:
        self._custom_id(text_input, path)
        if text_input.get("label") is not None:
            self._errors.check_length((*path, "label"), text_input["label"], 1, MAX_LABEL)
        for name, high in (("placeholder", 100), ("value", 4_000)):
            if text_input.get(name) is not None:
                self._errors.check_length((*path, name), text_input[name], 0, high)

    def _section(self, section: Json, path: Path) -> None:
        texts_ = section.get("components") or []
        if not 1 <= len(texts_) <= 3:
            self._errors.add((*path, "components"), "BASE_TYPE_BAD_LENGTH", "Must be between 1 and 3 in length.")
        self._children(texts_, (*path, "components"), frozenset({Kind.TEXT_DISPLAY}))
        if not section.get("accessory"):
            self._errors.add((*path, "accessory"), "BASE_TYPE_REQUIRED", "This field is required")
        else:
            self._one(section["accessory"], (*path, "accessory"), frozenset({Kind.BUTTON, Kind.THUMBNAIL}))

    def _text_display(self, text: Json, path: Path) -> None:
        self._errors.check_length((*path, "content"), text.get("content"), 1, MAX_TEXT)

    def _thumbnail(self, thumbnail: Json, path: Path) -> None:
        self._media(thumbnail.get("media"), (*path, "media"))

    def _gallery(self, gallery: Json, path: Path) -> None:
        items = gallery.get("items") or []
        if not 1 <= len(items) <= MAX_GALLERY_ITEMS:
            self._errors.add((*path, "items"), "BASE_TYPE_BAD_LENGTH", f"Must be between 1 and {MAX_GALLERY_ITEMS} in length.")
        for index, item in enumerate(items):
            self._media(item.get("media"), (*path, "items", index, "media"))
            if item.get("description") is not None:
                self._errors.check_length((*path, "items", index, "description"), item["description"], 1, 1024)

    def _file(self, file: Json, path: Path) -> None:
        self._media(file.get("file"), (*path, "file"), schemes=("attachment://",))

    def _media(
        self, media: Json | None, path: Path, *, schemes: tuple[str, ...] = ("attachment://", "http://", "https://")
    ) -> None:
        url = (media or {}).get("url")
        if not isinstance(url, str) or not url.startswith(schemes):
            self._errors.add((*path, "url"), "URL_TYPE_INVALID_SCHEME", f"Scheme must be one of {schemes}.")
        elif url.startswith("attachment://") and url.removeprefix("attachment://") not in self._filenames:
            message = "The specified attachment was not found"
            self._errors.add((*path, "url"), "UNFURLED_MEDIA_ITEM_REFERENCED_ATTACHMENT_NOT_FOUND", message)

    def _container(self, container: Json, path: Path) -> None:
        children = container.get("components") or []
        if not children:
            self._errors.add((*path, "components"), "BASE_TYPE_BAD_LENGTH", f"Must be between 1 and {MAX_COMPONENTS} in length.")
        self._children(children, (*path, "components"), _IN_CONTAINER)

    def _label(self, label: Json, path: Path) -> None:
        self._errors.check_length((*path, "label"), label.get("label"), 1, MAX_LABEL)
        if label.get("description") is not None:
            self._errors.check_length((*path, "description"), label["description"], 1, 100)
        if not label.get("component"):
            self._errors.add((*path, "component"), "BASE_TYPE_REQUIRED", "This field is required")
        else:
            self._one(label["component"], (*path, "component"), frozenset(_IN_LABEL))
