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

    @classmethod
    def of(cls, config: dict, rank: int) -> "Shape":
        """The sizes that a `config.json` names."""
        return cls(
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            kv_heads=config["num_key_value_heads"],
            head=config["head_dim"],
            inner=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            rank=rank,
        )

    @property
    def weights(self) -> int:
        """Weights of the model, embedding included once and norms left out."""
        return self.layers * self.layer_weights + self.vocabulary * self.width

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

    def decisions(self, prompts: list[dict], adapters: int) -> dict:
        """FLOPs and bytes of what base and adapters decide: a tree over all prompts and spellings of answers for each model, the logits of
        four readouts each, and every weight read once."""
        ids = [p["prompt_ids"] + answer[:-1] for p in prompts for answer in p["answer_a"] + p["answer_b"]]
        trees = self.tree(ids, False) + adapters * self.tree(ids, True)
        factors = 4.0 * adapters * self.layers * self.layer_adapter
        return {
            "flop": trees + self.logits((1 + adapters) * 4 * len(prompts)),
            "bytes": self.weights_bytes() + factors + 4.0 * self.vocabulary * self.width,
        }

    def logits(self, rows: float) -> float:
        return 2 * rows * self.width * self.vocabulary

    def weights_bytes(self, layers: float | None = None) -> float:
        """Bytes of the layers' weights in f32."""
        return 4.0 * (self.layers if layers is None else layers) * self.layer_weights


SMOLLM2 = Shape(layers=30, width=576, heads=9, kv_heads=3, head=64, inner=1536, vocabulary=49_152, rank=8)


def tree_tokens(prompts: list[list[int]]) -> int:
    """Tokens of a prefix tree over the prompts: what has to be computed when a shared beginning is computed once."""
    return len({tuple(ids[: n + 1]) for ids in prompts for n in range(len(ids))})
