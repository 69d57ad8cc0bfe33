"""Tuning: before arms are compared, each gets the same number of trials to find its hyperparameters with.

    declaration  what a study declares, checked and resolved for each arm
    search       where points come from: quasi-random, random, grid
    adaptive     the same from Optuna, which learns from what earlier points came to
    storages     where that lies: SQLite, a journal, a server
    pruning      which trials end early
    selection    the best of each arm, and ``tuning.json``
    run          all of it, in order
    command_line ``--tune.PATH=...``: tuning without a file

Configurations are chosen on the validation split alone, by seeds from 1000 on, which no result uses; then each
winner runs again, on the seeds of the study, and only those runs count.
"""
