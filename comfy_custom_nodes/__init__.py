"""FuLLet's nodes for ComfyUI: several people's prompts in one run, each picture as if it had been made alone.

Copy this folder into ComfyUI/custom_nodes and restart ComfyUI. README.md has the rest.
"""

from importlib.util import find_spec

from .protocol import VERSION

__version__ = VERSION

#: Outside ComfyUI (in tests of the arithmetic) there is nothing to register the nodes with.
IS_IN_COMFYUI = find_spec("comfy") is not None and find_spec("folder_paths") is not None

if IS_IN_COMFYUI:
    from .files import register
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

    register()
else:
    NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = {}, {}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "__version__"]
