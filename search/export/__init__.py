"""The best configuration on its way out: a file to read, or a bundle with all that repeats it elsewhere."""
