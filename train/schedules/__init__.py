"""Schedules: each file that defines a `Config` is one: a factor of the learning rate over steps."""
