"""Scalars of the logits, by their derivatives."""

from __future__ import annotations

from typing import Any, Callable, Sequence, Union

import numpy as np

#: From logits ``[batch, position, d_vocab]`` to the derivative of a scalar by each of them, in the same shape.
LossFunction = Callable[[np.ndarray], Any]


def logit_difference(plus: Union[int, Sequence[int]], minus: Union[int, Sequence[int]]) -> LossFunction:
    """The logit of a token minus that of another after the last position, summed over prompts; for :meth:`Model.run_with_gradients`.

    Prompts do not see each other, so the gradient at a prompt's activations is that of its own difference.

    Args:
        plus: The id of the token that counts as positive, or one for each prompt.
        minus: The id of the other.
    """

    def loss(logits: np.ndarray) -> np.ndarray:
        derivative = np.zeros_like(logits)
        every = np.arange(len(logits))
        for token, sign in ((plus, 1.0), (minus, -1.0)):
            ids = np.asarray(token)
            if ids.ndim > 0 and ids.shape != every.shape:
                raise ValueError(f"{len(ids)} tokens for {len(every)} prompts")
            if ((ids < 0) | (ids >= logits.shape[-1])).any():
                raise ValueError(f"token {token} is outside the vocabulary of {logits.shape[-1]} tokens")
            derivative[every, -1, ids] += sign
        return derivative

    return loss


def as_bytes(loss: LossFunction) -> Callable[[Any], bytes]:
    """The function as the engine calls it."""

    def call(buffer: Any) -> bytes:
        logits = np.asarray(buffer)
        derivative = np.asarray(loss(logits), dtype=np.float32)
        if derivative.shape != logits.shape:
            raise ValueError(f"the loss returned the shape {derivative.shape} for logits of {logits.shape}")
        return derivative.tobytes()

    return call
