"""The thesis' tables and figures as searches over fixed lists."""
