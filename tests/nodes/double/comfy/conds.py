"""Values of a conditioning: how each fits a batch and is joined with others."""

import math
from typing import Any

import torch


def fitted(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    return tensor.repeat(math.ceil(batch / tensor.shape[0]), *[1] * (tensor.ndim - 1))[:batch]


class CONDRegular:
    def __init__(self, cond: Any) -> None:
        self.cond = cond

    def process_cond(self, batch_size: int, **_: Any) -> "CONDRegular":
        return type(self)(fitted(self.cond, batch_size))

    def can_concat(self, other: "CONDRegular") -> bool:
        return bool(self.cond.shape == other.cond.shape)

    def concat(self, others: list["CONDRegular"]) -> Any:
        return torch.cat([self.cond, *(other.cond for other in others)])


class CONDCrossAttn(CONDRegular):
    def can_concat(self, other: CONDRegular) -> bool:
        lengths = self.cond.shape[1], other.cond.shape[1]
        return bool(self.cond.shape[2] == other.cond.shape[2]) and math.lcm(*lengths) <= 4 * min(lengths)

    def concat(self, others: list[CONDRegular]) -> torch.Tensor:
        tensors = [self.cond, *(other.cond for other in others)]
        longest = math.lcm(*(tensor.shape[1] for tensor in tensors))
        return torch.cat([tensor.repeat(1, longest // tensor.shape[1], 1) for tensor in tensors])


class CONDConstant(CONDRegular):
    def process_cond(self, batch_size: int, **_: Any) -> "CONDConstant":
        return type(self)(self.cond)

    def can_concat(self, other: CONDRegular) -> bool:
        return bool(self.cond == other.cond)

    def concat(self, others: list[CONDRegular]) -> Any:
        return self.cond


class CONDList(CONDRegular):
    def process_cond(self, batch_size: int, **_: Any) -> "CONDList":
        return type(self)([fitted(tensor, batch_size) for tensor in self.cond])

    def can_concat(self, other: CONDRegular) -> bool:
        return [tensor.shape for tensor in self.cond] == [tensor.shape for tensor in other.cond]

    def concat(self, others: list[CONDRegular]) -> list[torch.Tensor]:
        return [torch.cat(tensors) for tensors in zip(self.cond, *(other.cond for other in others), strict=True)]
