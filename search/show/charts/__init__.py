"""What MLflow's pictures and the report's charts show: computed here once, drawn there."""
