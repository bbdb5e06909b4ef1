"""Who runs what, where: the training loops over rollouts and learners."""
