"""What happens next: rungs, samplers, the race, the next job."""
