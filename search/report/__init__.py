"""A search on one page: what was asked and answered, and everything it rests on."""
