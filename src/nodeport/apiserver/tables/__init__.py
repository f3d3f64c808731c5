"""Tables: what kubectl prints. Columns and cells per kind; pure functions of objects and the time."""
