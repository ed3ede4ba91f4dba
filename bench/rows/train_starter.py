"""A step on eight pictures of 128×128 on the starter model."""

from rows.train_step import ROOT, open_step


def open_row(variant):
    return open_step("train_starter", ROOT / "models" / "starter" / "transformer", 8, 8, 16, variant)
