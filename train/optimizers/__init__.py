"""Optimizers: each file that defines a `Config` is one, with `build(config, hyperparameters, ...)`."""
