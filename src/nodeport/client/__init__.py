"""How every part talks to the API: requests, watches, caches that follow them, and queues of keys to look at
again.

Promises: works against this project's API server and any other Kubernetes API; owns its connections and
closes them; never mutates an object that it handed out; knows nothing of what the objects mean. Never opens
the store, never touches the kernel.
"""
