"""Runs in worker processes: what a crash of the engine, or of a storage library, cannot take with it.

The caller's side is `sandbox.py` and `run.py`, which look like those of `host`; below them `pool.py` has the workers,
`process.py` is one of them as seen from here, and `worker.py` is the program that it runs. What goes there is
`travel.py`; what comes back is `answers.py`, on the wire of `wire.py`.

A worker ran what nobody trusts. If the engine was broken, what it sends is the attacker's: nothing of it is unpickled,
all of it has a size that is known before it is read, and what is not as it has to be is a crash of that worker.
"""
