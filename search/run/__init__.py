"""Who does it: assembling a search and running its jobs."""
