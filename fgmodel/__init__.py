"""The two-stream classifier of Shroff 2020, usable without the search."""
