"""Latents to a picture of 1024×1024."""

from rows.vae_decode import open_size


def open_row(variant):
    return open_size(1024, variant)
