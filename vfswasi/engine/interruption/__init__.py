"""Ending a guest that computes, without a cost for one that is not ended: checks in the module itself, put there before
it is compiled, which read a page that is made inaccessible when the run is to end.

Nothing else in the package knows how it is done. wasmtime has the same in preparation; when its bindings can switch it
on, this room can be taken out whole.
"""
