"""The X-ray encoder of MoRE: a Vision Transformer trained from scratch.

Thapa et al., arXiv:2410.16239 (a reconstruction; see ``blocks.py``), after Dosovitskiy et al. 2021.
A checkpoint trained on photographs (``encoder: {name: pretrained}``) is not MoRE.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate

from multimodal.batch import Encoded
from multimodal.encoders import ENCODERS
from multimodal.encoders.blocks import Tower, TowerConfig
from multimodal.errors import UserError
from multimodal.modalities import Adapter

COLOURS = 3


@ENCODERS.register("vit")
class VitConfig(TowerConfig):
    """Square X-rays in patches of ``patch`` x ``patch`` pixels; modality.size is a multiple of it.

    MoRE: modality {name: xray, size: 224, clahe: true}, patch 16, and the sizes of ViT-B.
    """

    patch: int = Field(default=16, ge=2, le=64)

    def build(self, adapter: Adapter) -> XrayViT:
        """UserError for another modality and for a size that patches do not fill."""
        size: Any = getattr(getattr(adapter, "config", None), "size", None)
        if adapter.axes != 2 or not isinstance(size, int):
            raise UserError("encoder vit reads X-rays (modality xray); use compact for others.")
        if size % self.patch:
            raise UserError(
                f"modality.size={size} is no multiple of encoder.patch={self.patch}; set "
                f"modality.size={self.patch * -(-size // self.patch)}, or another patch."
            )
        encoder = XrayViT(image=size, patch=self.patch, **self.tower)
        return encoder.requires_grad_(self.train == "all")


class XrayViT(Tower):
    """(N, 1, H, W) features, H and W multiples of ``patch`` -> Encoded of 1 + H W / patch^2 tokens.

    The grey image is repeated as three colours, as published. Positions are learned for ``image`` x
    ``image`` pixels; of other sizes they are interpolated.
    """

    def __init__(
        self,
        *,
        image: int = 224,
        patch: int = 16,
        width: int = 192,
        depth: int = 4,
        heads: int = 3,
        dropkey: float = 0.2,
        schedule: Any = "linear",
    ) -> None:
        sizes = {"width": width, "depth": depth, "heads": heads}
        super().__init__((image // patch) ** 2, **sizes, dropkey=dropkey, schedule=schedule)
        self.patch, self.side = patch, image // patch
        self.stem = nn.Conv2d(COLOURS, width, patch, stride=patch)
        self.initialise()

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns of the tokens behind the class token, for features of this shape."""
        return shape[2] // self.patch, shape[3] // self.patch

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """lengths: the height of all; images have no padding."""
        assert features.dim() == 4, f"(N, 1, H, W), not {tuple(features.shape)}"
        rows, columns = self.grid(tuple(features.shape))
        grid_NDRC = self.stem(features.expand(-1, COLOURS, -1, -1))
        tokens_NPD = grid_NDRC.flatten(2).transpose(1, 2)
        return self.encoded(tokens_NPD + self._places(rows, columns).to(tokens_NPD.dtype), None)

    def _places(self, rows: int, columns: int) -> Tensor:
        """(R C, D)"""
        grid_PD = self.positions[1:]
        if (rows, columns) == (self.side, self.side):
            return grid_PD
        grid_1DSS = grid_PD.T.view(1, -1, self.side, self.side)
        resized = interpolate(grid_1DSS, (rows, columns), mode="bicubic", align_corners=False)
        return resized[0].flatten(1).T
