"""The command line: `semipose COMMAND ...` read into a call of a task, its errors into messages and exit codes.

May use every package; each command imports what it needs when it runs, so that help and checks load no torch.
"""
