"""A stand-in for ComfyUI: its HTTP and websocket on loopback, drawing placeholder pictures instead of running models."""

from modules.sandbox.comfy_server.faults import FaultKind, Match
from modules.sandbox.comfy_server.models import DEFAULT_MODELS, LARGE_MODELS
from modules.sandbox.comfy_server.sandbox import ComfySandbox

__all__ = ["DEFAULT_MODELS", "LARGE_MODELS", "ComfySandbox", "FaultKind", "Match"]
