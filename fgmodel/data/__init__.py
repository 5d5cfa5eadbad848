"""Images, their labels and their patch boxes, from disk: data sets, splits, fingerprints, and birds that are drawn."""
