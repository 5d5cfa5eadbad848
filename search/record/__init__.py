"""What happened: the journal, its fold, and where it lies."""
