"""The loops that make the cluster what its objects say: each compares wanted with actual for one key at a
time.

Promises: talks to the API only, through informers and requests; plans are pure functions in each folder's
``reconcile.py``, the thin ``controller.py`` beside it carries them out; all of it stops by cancellation and
can be started again. Never imports the apiserver, the node or the proxy; never touches the kernel.
"""
