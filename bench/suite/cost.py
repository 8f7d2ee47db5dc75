"""What works cost in arithmetic and in memory traffic: the model that is set beside the measured times.

FLOPs are of matrix products and attention, two for a multiplication with an addition; norms, activations and softmax are
left out (about 2% here). Bytes are the weights in f32, once for each time that they have to be read: every batch of rows
reads them once. `SMOLLM2` are the sizes of SmolLM2-135M.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    vocabulary: int
    rank: int  # of the adapters, in all linear layers

    @property
    def layer_weights(self) -> int:
        """Weights of one layer that every token is multiplied with."""
        return self.width * self.head * (2 * self.heads + 2 * self.kv_heads) + 3 * self.width * self.inner

    @property
    def layer_adapter(self) -> int:
        """Numbers in one layer's factors of an adapter."""
        q, kv = self.heads * self.head, self.kv_heads * self.head
        ins_and_outs = (self.width + q) + 2 * (self.width + kv) + (q + self.width) + 3 * (self.width + self.inner)
        return self.rank * ins_and_outs

    def tokens(self, tokens: float, context: float, adapted: bool, layers: float | None = None) -> float:
        """FLOPs of `tokens` tokens with `context` keys each on average, through all layers or so many."""
        weights = self.layer_weights + (self.layer_adapter if adapted else 0)
        return tokens * (self.layers if layers is None else layers) * (2 * weights + 4 * self.heads * self.head * context)

    def forward(self, tokens: int, adapted: bool, layers: float | None = None) -> float:
        """FLOPs of a prompt of so many tokens, without logits."""
        return self.tokens(tokens, (tokens + 1) / 2, adapted, layers)

    def tree(self, prompts: list[list[int]], adapted: bool) -> float:
        """FLOPs of some prompts, without logits, where beginnings that they share are computed once."""
        return self.tokens(tree_tokens(prompts), sum(map(len, prompts)) / len(prompts) / 2, adapted)

    def logits(self, rows: float) -> float:
        return 2 * rows * self.width * self.vocabulary

    def weights_bytes(self, layers: float | None = None) -> float:
        """Bytes of the layers' weights in f32."""
        return 4.0 * (self.layers if layers is None else layers) * self.layer_weights


SMOLLM2 = Shape(layers=30, width=576, heads=9, kv_heads=3, head=64, inner=1536, vocabulary=49_152, rank=8)


def tree_tokens(prompts: list[list[int]]) -> int:
    """Tokens of a prefix tree over the prompts: what has to be computed when a shared beginning is computed once."""
    return len({tuple(ids[: n + 1]) for ids in prompts for n in range(len(ids))})
