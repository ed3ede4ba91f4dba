"""Latents to a picture of 512×512."""

from rows.vae_decode import open_size


def open_row(variant):
    return open_size(512, variant)
