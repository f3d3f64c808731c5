"""Who owns which field: ``metadata.managedFields`` and server-side apply, as rules on plain JSON.

``sets`` are sets of fields in their wire form, ``types`` are schema definitions compiled for walking objects,
``comparison`` says what a write changed, ``entries`` are the managers of an object, ``updates`` and ``applying`` are
what a write makes of them.
"""
