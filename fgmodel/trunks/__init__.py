"""The libraries' classifiers without their heads: found by name, wrapped as a backbone, frozen over many images."""
