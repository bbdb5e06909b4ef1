"""Training: rendering, sampling, tracking, learning, and the commands that run them."""
