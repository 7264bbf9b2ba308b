"""Settings of a training run and typed values, from flags, yaml files and Python. Loads no torch.

`settings` holds names, defaults, help and rules, `parsing` reads single values, `yaml_file` reads files with line
numbers. Uses networks for their names, and errors.
"""
