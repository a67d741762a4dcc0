"""lit_restore: reference-guided, single-step diffusion face restoration."""

__version__ = "0.1.0"
