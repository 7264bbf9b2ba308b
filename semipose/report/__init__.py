"""Write a run's report: one HTML page with the verdict, accuracy, curves, pictures and settings.

In: a finished or unfinished `Run`, and optionally its validation and unlabeled people, which get pictures. Out:
report.html. Pages are Jinja2 templates (templates/), which escape every value; charts are SVG made in `charts`. May use
`runs`, `engine`, `inference` and all packages below them.
"""
