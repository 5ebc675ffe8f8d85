"""ComfyUI's server as custom nodes meet it while they are loaded: routes can be added, and its queue be asked."""

from collections.abc import Sequence

from aiohttp import web

Entry = tuple[float, str, dict[str, object], dict[str, object], list[str]]


class PromptQueue:
    def __init__(self) -> None:
        self.running: list[Entry] = []
        self.pending: list[Entry] = []

    def get_current_queue(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        return self.running, self.pending


class PromptServer:
    instance: "PromptServer"

    def __init__(self) -> None:
        self.routes = web.RouteTableDef()
        self.prompt_queue = PromptQueue()
