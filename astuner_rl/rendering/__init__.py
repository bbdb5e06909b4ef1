"""Messages to tokens and back, such that what a policy sampled is never tokenised again."""
