"""The full run of an exported configuration, and the one look at test."""
