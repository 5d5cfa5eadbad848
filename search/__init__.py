"""The search: a journal of facts, and everything that is read off it."""
