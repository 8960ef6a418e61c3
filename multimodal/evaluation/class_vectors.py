"""One unit vector a class, from its prompts: the classifier of zero-shot evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from multimodal.digests import read_tensors, write_tensors
from multimodal.errors import UserError
from multimodal.evaluation.embeddings import EmbedTexts, unit_texts
from multimodal.evaluation.prompts import Prompts


@dataclass(frozen=True, eq=False)
class ClassVectors:
    """class_names: C names. vectors: (C, D) float64, of length 1. prompts: hash of the prompts."""

    class_names: tuple[str, ...]
    vectors: Tensor
    prompts: str

    def save(self, path: Path) -> None:
        """A safetensors file that ``load`` reads back."""
        words = {"class_names": json.dumps(self.class_names), "prompts": self.prompts}
        write_tensors(path, {"vectors": self.vectors}, words)

    @classmethod
    def load(cls, path: Path) -> ClassVectors:
        """UserError names a file that is absent, damaged, or holds something else."""
        try:
            tensors, words, _ = read_tensors(path)
            vectors = tensors["vectors"]
            names = tuple(json.loads(words["class_names"]))
            if vectors.ndim != 2 or len(vectors) != len(names):
                raise ValueError(f"{len(names)} names, vectors {tuple(vectors.shape)}")
            return cls(names, vectors, words["prompts"])
        except (OSError, KeyError, ValueError) as error:
            raise UserError(
                f"{path}: no class vectors that can be read ({error}); make them again."
            ) from error


def class_vectors(
    class_names: Sequence[str], prompts: Prompts, embed_texts: EmbedTexts
) -> ClassVectors:
    """Embed all prompts, normalise each, average those of a class, normalise again.

    That is the prompt ensemble of CLIP (Radford et al., arXiv:2103.00020); of one prompt it is that
    prompt. UserError: as ``Prompts.texts``, and for embeddings with NaN.
    """
    texts = prompts.texts(class_names)
    embedded = unit_texts([text for own in texts for text in own], embed_texts)
    means = [rows.mean(dim=0) for rows in embedded.split([len(own) for own in texts])]
    return ClassVectors(tuple(class_names), normalize(torch.stack(means), dim=1), prompts.hash)
