"""A prompt of 512 tokens through four layers of an encoder as wide as T5-XXL.

Its random weights (1.5 GB in bf16) are written to bench/work/t5_encode.
"""

from pathlib import Path

import torch
from transformers import T5Config, T5EncoderModel

FOLDER = Path(__file__).resolve().parents[1] / "work" / "t5_encode"
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
TOKENS, VOCABULARY = 512, 1024


def write():
    config = T5Config(
        vocab_size=VOCABULARY, d_model=4096, d_kv=64, num_heads=64, d_ff=10240, num_layers=4,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    T5EncoderModel(config).to(torch.bfloat16).save_pretrained(FOLDER)


def open_row(variant):
    if not (FOLDER / "model.safetensors").exists():
        write()
    encoder = T5EncoderModel.from_pretrained(FOLDER, dtype=DTYPES[variant]).eval()
    # Every token of the vocabulary's first half once, in an order that both sides can make.
    ids = torch.arange(TOKENS)[None] * 7 % TOKENS
    return lambda repetition: encoder(ids).last_hidden_state.float()
