"""Linear algebra on the generator: at rest, in time, to a target."""
