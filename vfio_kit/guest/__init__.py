"""EDGE: talks to a guest over SSH."""
