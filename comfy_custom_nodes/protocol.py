"""The words that the pack and its clients agree on; PROTOCOL.md explains them."""

from typing import Final

PROTOCOL: Final = 1
VERSION: Final = "1.1.0"
MAX_SLOTS: Final = 16
ERROR_PREFIX: Final = "fullet-merge: "
CATEGORY: Final = "FuLLet/merge"

#: The type of a list of slots. It is not CONDITIONING on purpose: a stock sampler given such a list would blend
#: all prompts into every picture, so ComfyUI has to refuse the link when the graph is submitted.
MERGE_COND: Final = "MERGE_COND"

#: Whose picture a preview shows: `value` is the step counter that ComfyUI sends with it (1 ... max).
PREVIEW_RULE: Final = "(value - 1) % slots"


class MergeError(ValueError):
    """A merged run cannot go on; `code` is one of PROTOCOL.md's, the sentence never holds a prompt."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{ERROR_PREFIX}{code}: {sentence}")
        self.code = code


def described(sentence: str) -> str:
    """A node's description: clients read version and protocol from its start."""
    return f"FuLLet merge pack {VERSION}, protocol {PROTOCOL}. {sentence}"
