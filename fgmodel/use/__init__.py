"""A trained model in use: kept in one file, shown images, explained, exported, beside a classifier of one's own."""
