"""What a search is."""
