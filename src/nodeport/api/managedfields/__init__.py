"""Who owns which field: ``metadata.managedFields`` and server-side apply, as rules on plain JSON.

``elements`` and ``sets`` are sets of fields in their wire form; ``types`` are schema definitions compiled for walking
objects; ``entries`` are the managers of an object; ``updates`` is what a plain write makes of them. ``applying`` merges
what is applied, with ``leaves``, ``merging``, ``fitting`` and ``conflicts``; ``scale`` translates owners of replicas.
Why so: ``docs/decisions/0010``.
"""
