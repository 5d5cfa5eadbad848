"""What MLflow holds and shows of a search: a projection of the journal, written in the background."""
