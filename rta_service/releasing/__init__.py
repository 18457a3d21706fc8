"""Making releases: what is checked before one can decide, and how one is loaded.

A release names snapshot, models and strategies together. It is put together here, tried out
(models in a process of their own, strategies against the models, their mean values over the
snapshot), and only then does the pointer move.
"""
