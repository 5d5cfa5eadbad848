"""What every shipped space comes to, a file each: a default that changes is seen in review. `make golden` writes them."""
