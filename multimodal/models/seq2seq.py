"""Speech to a target string: an encoder of ours and a transformer decoder that attends to it.

The shape of COCONUT's model (Cappellazzo et al., arXiv:2310.02699; specs/coconut.md says what of it
is confirmed): an audio encoder, a decoder, and for the contrastive losses one linear projection of
each side. Its "text encoder" is the decoder's table of token embeddings and nothing else.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from jaxtyping import Float, Int
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn

from multimodal.batch import Batch, Encoded
from multimodal.encoders import Encoder
from multimodal.errors import UserError
from multimodal.models.decoder import Decoder
from multimodal.models.decoding import Decoded, beam_search, greedy
from multimodal.models.vocabulary import EOS, PAD, SEP_ID, SOS, SPECIALS, Vocabulary
from multimodal.models.whisper_decoder import WhisperDecoder
from multimodal.registry import Config

TextPool = Literal["intent_token", "mean"]
SIZES = ("layers", "heads", "width", "feed_forward", "merges")  # a checkpoint brings its own


class DecoderConfig(Config):
    """The decoder and what it writes; COCONUT's is 6 layers, 8 heads, width 768, feed_forward 3072.

    merges: pieces that the vocabulary may learn. bpe_dropout: of merges, in the targets of training
    (0.1 in the authors' code). longest: tokens of a text, without [EOS]. beam, length_penalty: see
    ``decoding``. label_smoothing: of the tokens' cross-entropy. projection: width of the space of
    the contrastive losses. checkpoint, revision: of Whisper, whose decoder and pieces are taken
    then, sizes and merges with them; of an encoder of the same width the bridge starts as identity.
    """

    checkpoint: str | None = Field(default=None, exclude_if=lambda name: name is None)
    revision: str | None = Field(
        default=None, pattern="^[0-9a-f]{40}$", exclude_if=lambda name: name is None
    )
    layers: int = Field(default=2, ge=1, le=128)
    heads: int = Field(default=4, ge=1, le=1024)
    width: int = Field(default=128, ge=2, le=8192)
    feed_forward: int = Field(default=512, ge=1, le=32768)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    merges: int = Field(default=256, ge=0, le=100_000)
    bpe_dropout: float = Field(default=0.0, ge=0, lt=1)
    longest: int = Field(default=130, ge=1, le=10_000)
    beam: int = Field(default=5, ge=1, le=1000)
    length_penalty: float = Field(default=0.6, ge=0, le=10)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    projection: int = Field(default=128, ge=1, le=16384)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 2 x heads ({self.heads})")
        given = [name for name in SIZES if name in self.model_fields_set]
        if self.checkpoint is None and self.revision is not None:
            raise ValueError("revision: is of a checkpoint; name it too, or leave it out")
        if self.checkpoint is not None and given:
            raise ValueError(f"{', '.join(given)}: come with the checkpoint; leave them out")
        return self

    @model_serializer(mode="wrap")
    def _told(self, told: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without sizes that are not its own, so that a run's config can be read back."""
        idle = SIZES if self.checkpoint is not None else ()
        return {name: value for name, value in told(self).items() if name not in idle}

    def vocabulary(self, intents: tuple[str, ...]) -> Vocabulary:
        """UserError: see ``Vocabulary`` and ``WhisperDecoder``."""
        if self.checkpoint is not None:
            return WhisperDecoder(self.checkpoint, self.revision).vocabulary(intents)
        return Vocabulary(intents, merges=self.merges)

    def build(self, front_end: nn.Module, encoder: Encoder, vocabulary: Vocabulary) -> Seq2Seq:
        """UserError: ``longest`` is more than the checkpoint has places for."""
        if self.checkpoint is not None:
            return self._from_checkpoint(self.checkpoint, front_end, encoder, vocabulary)
        decoder = Decoder(
            vocabulary.size,
            layers=self.layers,
            heads=self.heads,
            width=self.width,
            feed_forward=self.feed_forward,
            dropout=self.dropout,
            pad=PAD,
        )
        return Seq2Seq(front_end, encoder, decoder, projection=self.projection)

    def _from_checkpoint(
        self, name: str, front_end: nn.Module, encoder: Encoder, vocabulary: Vocabulary
    ) -> Seq2Seq:
        opened = WhisperDecoder(name, self.revision)
        if self.longest > opened.longest:
            raise UserError(
                f"decoder.longest={self.longest}: {name} writes at most {opened.longest} tokens; "
                "lower it."
            )
        decoder = opened.build(vocabulary, dropout=self.dropout)
        model = Seq2Seq(front_end, encoder, decoder, projection=self.projection)
        if encoder.width == decoder.width:
            nn.init.eye_(model.bridge.weight)
            nn.init.zeros_(model.bridge.bias)
        return model


class Seq2Seq(nn.Module):
    """Front end, encoder, a linear bridge to the decoder's width D, decoder, two projections.

    Where nothing of front end and encoder is trained they stay in evaluation mode, as in
    ``Reader``. Ids are those of ``Vocabulary``.
    """

    def __init__(
        self, front_end: nn.Module, encoder: Encoder, decoder: Decoder, *, projection: int
    ) -> None:
        super().__init__()
        assert isinstance(encoder, nn.Module)
        self.front_end, self.encoder, self.decoder = front_end, encoder, decoder
        self.bridge = nn.Linear(encoder.width, decoder.width)
        self.signal_projection = nn.Linear(decoder.width, projection)
        self.text_projection = nn.Linear(decoder.width, projection)

    @property
    def frozen(self) -> bool:
        """Nothing of front end and encoder is trained."""
        parameters = [*self.front_end.parameters(), *self.encoder.parameters()]
        return not any(p.requires_grad for p in parameters)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.front_end.eval()
            self.encoder.eval()
        return self

    def encode(self, batch: Batch) -> Encoded:
        """tokens (N, L, D) as the decoder reads them, their mask, and their mean (N, D)."""
        features = self.front_end(batch)
        encoded = self.encoder(features.values, features.lengths)
        tokens_NLD = self.bridge(encoded.tokens)
        weights_NL1 = encoded.mask[..., None].to(tokens_NLD.dtype)
        pooled_ND = (tokens_NLD * weights_NL1).sum(1) / weights_NL1.sum(1).clamp(min=1)
        return Encoded(tokens_NLD, encoded.mask, pooled_ND)

    def embed(self, batch: Batch) -> Float[Tensor, "batch width"]:
        """(N, D) means of the tokens, by which recordings are compared."""
        return self.encode(batch).pooled

    def teacher_forced(
        self, encoded: Encoded, ids: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Logits of what follows each id. ids: ``framed`` inputs, [SOS] first, [PAD] at the end."""
        return self.decoder(ids, encoded.tokens, encoded.mask)

    def greedy(self, encoded: Encoded, *, longest: int) -> Decoded:
        """See ``decoding``; in evaluation mode and without gradient."""
        return greedy(self.decoder, encoded, longest=longest)

    def beam(
        self, encoded: Encoded, *, width: int, longest: int, length_penalty: float = 0.6
    ) -> Decoded:
        """See ``decoding``; in evaluation mode and without gradient."""
        return beam_search(
            self.decoder, encoded, width=width, longest=longest, length_penalty=length_penalty
        )

    def signal_embedding(self, encoded: Encoded) -> Float[Tensor, "batch projection"]:
        """The projected mean over the encoder's tokens, not normalised."""
        return self.signal_projection(encoded.pooled)

    def text_embedding(
        self, ids: Int[Tensor, "batch length"], *, pool: TextPool = "intent_token"
    ) -> Float[Tensor, "batch projection"]:
        """The projected embedding of a text's tokens, not normalised and in no context.

        ids: of texts, with or without [SOS] and [EOS], [PAD] at the end. pool: the intent's token
        (the mean of its pieces where it is no whole token: all before the first _SEP), or the mean
        of all tokens but [PAD] [UNK] [SOS] [EOS].
        """
        counts_NT = ids >= SPECIALS
        if pool == "intent_token":
            counts_NT = counts_NT & ((ids == SEP_ID).cumsum(1) == 0)
        embedded_NTD = self.decoder.embedding(ids)
        weights_NT1 = counts_NT[..., None].to(embedded_NTD.dtype)
        mean_ND = (embedded_NTD * weights_NT1).sum(1) / weights_NT1.sum(1).clamp(min=1)
        return self.text_projection(mean_ND)


def framed(
    ids: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"]
) -> tuple[Int[Tensor, "batch longer"], Int[Tensor, "batch longer"]]:
    """Texts as ``Vocabulary.encode_batch`` gives them -> what the decoder reads, [SOS] first, and
    what it shall write, [EOS] last; both (N, T + 1), [PAD] beyond.
    """
    inputs = nn.functional.pad(ids, (1, 0), value=SOS)
    targets = nn.functional.pad(ids, (0, 1), value=PAD)
    return inputs, targets.scatter(1, lengths.to(ids.device)[:, None], EOS)
