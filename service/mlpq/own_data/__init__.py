"""Data sets of the user's own: read from many formats, split, scaled, and stored by their hash. No SQL, no torch."""
