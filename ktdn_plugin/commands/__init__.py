"""The commands, a function each: its signature is the flags, its docstring the help.

What a command does is a function of the package, loaded when the command runs.
"""
