"""The model: what moves, where, and how loudly."""
