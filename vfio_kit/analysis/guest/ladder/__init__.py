"""The rungs of `verify`, each judged on its own; analysis/guest/verification puts them together."""
