"""What can be wrong with a cluster, as one line for the person who asked."""


class ClusterError(Exception):
    """A cluster cannot be started, reached or used: the message says which part of it, and what would be right."""
