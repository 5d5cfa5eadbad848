"""Images before a search: folders and published sets looked at, fetched, given boxes and a space file."""
