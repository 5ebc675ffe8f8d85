"""How large a picture becomes that follows its input: read off the nodes between loader and output, before it is drawn."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from modules.ai.workflows.graph import Graph, Link, Node
from modules.ai.workflows.role_inputs import Role
from modules.ai.workflows.template import Template
from modules.domain.images import Dimensions

#: Inputs through which a node takes the picture (or latent) that it hands on, in the order they are tried.
_ONWARD = ("image", "images", "pixels", "samples", "latent_image", "latent", "input", "image1")
#: Nodes of ComfyUI that bring a picture to about one megapixel in its own proportions. Source: comfy_extras/nodes_flux.py.
_TO_ONE_MEGAPIXEL = frozenset({"FluxKontextImageScale"})
_SIZE_CLASSES = frozenset({"GetImageSize", "GetImageSize+"})
#: Upscaling models say in their names by how much: `RealESRGAN_x4plus`, `4x-UltraSharp`.
_FACTOR = re.compile(r"(?<![0-9a-z])([1-9])x|x([1-9])(?!\d)", re.IGNORECASE)
#: What most of them do whose names do not say it.
_USUAL_FACTOR = 4
_MEGAPIXEL = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowingSizes:
    """What becomes of an input picture of one size."""

    result: Dimensions
    largest: Dimensions  #: the largest picture that the server holds on the way


def following_sizes(template: Template, source: Dimensions) -> FollowingSizes | None:
    """The sizes on the way from the source to the picture; None where the picture does not follow the source."""
    walk = _SizeWalk(template.graph, {target.node for target in template.shape.targets[Role.SOURCE]}, source)
    result = walk.size_of(template.shape.picture.node)
    if result is None:
        return None
    return FollowingSizes(result=result, largest=max(walk.met, key=lambda size: size.megapixels))


class _SizeWalk:
    """Sizes by node, each worked out once."""

    def __init__(self, graph: Graph, loaders: set[str], source: Dimensions) -> None:
        self._graph = graph
        self._known: dict[str, Dimensions | None] = dict.fromkeys(loaders, source)
        self.met: list[Dimensions] = [source]

    def size_of(self, node_id: str) -> Dimensions | None:
        """The size of what a node gives out; None where it does not depend on the source."""
        if node_id not in self._known:
            self._known[node_id] = None  # a node that asks for itself gets no answer
            size = self._size(self._graph[node_id])
            self._known[node_id] = size
            if size is not None:
                self.met.append(size)
        return self._known[node_id]

    def _size(self, node: Node) -> Dimensions | None:
        handed = next((size for name in _ONWARD if (link := node.link(name)) and (size := self.size_of(link.node))), None)
        if "width" in node.inputs and "height" in node.inputs:
            return self._stated(node, handed)
        if handed is None:
            return None
        if node.class_type == "ImageUpscaleWithModel":
            return _scaled(handed, self._model_factor(node))
        if (factor := _number(node, "scale_by")) is not None:
            return _scaled(handed, factor)
        if (megapixels := _number(node, "megapixels")) is not None:
            return _to_area(handed, megapixels)
        return _to_area(handed, 1.0) if node.class_type in _TO_ONE_MEGAPIXEL else handed

    def _stated(self, node: Node, handed: Dimensions | None) -> Dimensions | None:
        """Both sides as the node states them. A side of 0 fits the other, and sides may be those of another picture.

        A size that has nothing to do with the source is none that follows it, unless a picture that does is brought to it.
        """
        sides = [self._side(node, name, place) for place, name in enumerate(("width", "height"))]
        if handed is None and not any(node.link(name) for name in ("width", "height")):
            return None
        if None in sides or not any(sides):
            return handed
        width_px, height_px = (side or 0 for side in sides)
        if handed is not None and width_px == 0:
            width_px = round(handed.width_px * height_px / handed.height_px)
        if handed is not None and height_px == 0:
            height_px = round(handed.height_px * width_px / handed.width_px)
        return Dimensions(max(1, width_px), max(1, height_px))

    def _side(self, node: Node, name: str, place: int) -> int | None:
        link = node.link(name)
        if link is None:
            number = _number(node, name)
            return None if number is None else round(number)
        return self._side_of_picture(link, place)

    def _side_of_picture(self, link: Link, place: int) -> int | None:
        """A side that a node such as GetImageSize reads off a picture."""
        node = self._graph[link.node]
        picture = next((found for name in _ONWARD if (found := node.link(name))), None)
        if node.class_type not in _SIZE_CLASSES or picture is None:
            return None
        size = self.size_of(picture.node)
        return None if size is None else (size.width_px, size.height_px)[min(link.output, 1) if link.output < 2 else place]

    def _model_factor(self, node: Node) -> float:
        link = node.link("upscale_model")
        name = self._graph[link.node].literal("model_name") if link else None
        found = _FACTOR.search(name) if isinstance(name, str) else None
        return float(found[1] or found[2]) if found else _USUAL_FACTOR


def _number(node: Node, name: str) -> float | None:
    value = node.literal(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _scaled(size: Dimensions, factor: float) -> Dimensions:
    return Dimensions(max(1, round(size.width_px * factor)), max(1, round(size.height_px * factor)))


def _to_area(size: Dimensions, megapixels: float) -> Dimensions:
    return _scaled(size, math.sqrt(megapixels * _MEGAPIXEL / (size.width_px * size.height_px)))
