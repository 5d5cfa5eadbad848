"""What a trained model attended to: heatmaps, curves, and whether it looks at ever finer parts."""
