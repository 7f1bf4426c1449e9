"""Sentence embeddings with all-MiniLM-L6-v2 (Wang et al. 2020; Reimers & Gurevych 2019).

Plain `transformers` with mean pooling, which is what sentence-transformers computes for this model,
without that package's import time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from pipelines.fetch import embedder_folder
from pipelines.loading import loading

MAX_TOKENS = 128  # the model was trained on pieces of this length; later tokens are cut off


class SentenceEncoder:
    """all-MiniLM-L6-v2 on the CPU."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load the encoder.

        Args:
            folder: a BERT model and tokenizer in transformers format; by default the fetched one.

        Raises:
            MissingWeights: the encoder has not been fetched.
        """
        folder = folder or embedder_folder()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        with loading():
            self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> torch.Tensor:
        """Embed texts, each different one once and beside others of its length.

        Args:
            texts: any number of strings; an empty string is allowed.
            batch_size: texts in one forward pass.

        Returns:
            float32 [len(texts), 384], unit length, so that a dot product is a cosine.
        """
        # A batch is padded to its longest text: in any order that is twice the work.
        different = sorted(set(texts), key=lambda text: (len(text), text))
        parts = [torch.empty(0, self.model.config.hidden_size)]
        for start in range(0, len(different), batch_size):
            batch = self.tokenizer(
                different[start : start + batch_size],
                padding=True,
                truncation=True,
                max_length=MAX_TOKENS,
                return_tensors="pt",
            )
            hidden = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            parts.append(torch.nn.functional.normalize(mean, dim=-1))
        place = {text: at for at, text in enumerate(different)}
        return torch.cat(parts)[[place[text] for text in texts]]
