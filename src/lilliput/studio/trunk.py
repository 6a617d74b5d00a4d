"""What is trained: the top of a model on cached states of the frozen rest, or a model whole. Dense decoders of llama's
build (embeddings, layers, norm, head; rotary positions). No optimiser here.

A batch is padded on the right: under a causal mask no real position sees what follows it, so no mask is needed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lilliput.neutral import Problem

TOKENS = 4096
"""Of a batch that is computed at once, padding included: what fits into 2-3 GB in training."""


class Learner(Protocol):
    """What training asks of a model."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """Those that are trained, by their name in the model."""

    def states(self, items: Sequence[int]) -> Tensor:
        """The last hidden states (B, T, D), after the norm, of some of the sequences it was made for."""


class Whole:
    """All layers are run; what is trained is what wants a gradient (everything, or adapters)."""

    def __init__(self, model: Any, sequences: Sequence[Sequence[int]]) -> None:
        self.model, self.sequences = model, sequences

    def parameters(self) -> dict[str, nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def states(self, items: Sequence[int]) -> Tensor:
        ids = padded([self.sequences[i] for i in items]).to(self.model.device)
        states: Tensor = self.model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        return states


class Trunk:
    """The top `layers` and the final norm, on the states that the layers below give, computed once a sequence.

    The states lie in a nameless file in `folder`: pages that the machine may drop and read again. `used` are the
    sequences that will be asked for (all, when None). `tell` hears the share computed.
    """

    def __init__(
        self,
        model: Any,
        layers: int,
        sequences: Sequence[Sequence[int]],
        *,
        used: Iterable[int] | None = None,
        folder: Path | None = None,
        bf16: bool = False,
        tell: Callable[[float], None] = lambda done: None,
    ) -> None:
        self.model, self.decoder = model, model.get_decoder()
        self.below = len(self.decoder.layers) - layers
        if not 0 <= self.below < len(self.decoder.layers):
            say = f"{layers} layers cannot be trained: this model has {len(self.decoder.layers)}; change `layers`"
            raise Problem("client", say, param="layers")
        order = sorted(set(range(len(sequences)) if used is None else used), key=lambda i: (len(sequences[i]), i))
        ends = list(itertools.accumulate(len(sequences[i]) for i in order))
        self.where = {i: slice(end - len(sequences[i]), end) for i, end in zip(order, ends, strict=True)}
        width, dtype = model.config.hidden_size, torch.bfloat16 if bf16 else torch.float32
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".states-") as file:
            size = max(ends[-1], 1) * width
            # Room is taken before it is mapped: a full disk is an OSError here, and would be a signal later.
            os.posix_fallocate(file.fileno(), 0, size * dtype.itemsize)
            self.cache = torch.from_file(file.name, shared=True, size=size, dtype=dtype).view(-1, width)
        with torch.inference_mode(), precision(model.device, bf16):
            for items in portions(order, [len(s) for s in sequences]):
                ids = padded([sequences[i] for i in items]).to(model.device)
                states = self._run(self.decoder.embed_tokens(ids), 0, self.below).to("cpu", dtype)
                for row, i in enumerate(items):
                    self.cache[self.where[i]] = states[row, : len(sequences[i])]
                tell(self.where[items[-1]].stop / ends[-1])

    def parameters(self) -> dict[str, nn.Parameter]:
        """Also marks them as to be trained."""
        top = tuple(f"layers.{i}." for i in range(self.below, len(self.decoder.layers)))
        chosen = {n: p for n, p in self.decoder.named_parameters() if n.startswith((*top, "norm."))}
        for parameter in chosen.values():
            parameter.requires_grad_(True)
        return {f"model.{n}": p for n, p in chosen.items()}

    def states(self, items: Sequence[int]) -> Tensor:
        rows = [self.cache[self.where[i]].float() for i in items]
        states = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.model.device)
        normed: Tensor = self.decoder.norm(self._run(states, self.below, len(self.decoder.layers)))
        return normed

    def _run(self, states: Tensor, first: int, last: int) -> Tensor:
        """Layers `first` up to `last` on states (B, T, D)."""
        positions = torch.arange(states.shape[1], device=states.device)[None]
        rotary = self.decoder.rotary_emb(states, position_ids=positions)
        for layer in self.decoder.layers[first:last]:
            states = layer(states, attention_mask=None, position_ids=positions, position_embeddings=rotary)
        return states


def padded(sequences: Sequence[Sequence[int]]) -> Tensor:
    """Token ids (B, T), padded with 0 on the right."""
    return nn.utils.rnn.pad_sequence([torch.tensor(s) for s in sequences], batch_first=True)


def portions(order: Sequence[int], lengths: Sequence[int], most: int = TOKENS) -> Iterator[list[int]]:
    """Items of `order`, cut where the padded batch would hold more than `most` tokens; one item at least."""
    portion: list[int] = []
    longest = 0
    for i in order:
        longest = max(longest, lengths[i])
        if portion and longest * (len(portion) + 1) > most:
            yield portion
            portion, longest = [], lengths[i]
        portion.append(i)
    if portion:
        yield portion


def precision(device: torch.device, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    """Matrix products in bfloat16, or everything as it is."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 else contextlib.nullcontext()
