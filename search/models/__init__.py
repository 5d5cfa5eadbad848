"""A trained model on its own: kept, found by name, asked, explained."""
