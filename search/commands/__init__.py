"""The commands of `fgsearch`, a module each family; each imports what it needs when it runs, so --help stays fast."""
