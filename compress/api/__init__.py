"""The Python API: one module a function, which ``import compress`` offers.

A function checks what it is given, the cheap things first, and hands it to the part of the house
that does the work. Its arguments are called like the options of the command of its name, and their
defaults are the command's: ``compress.commands`` reads them from the signature. Importing these
modules imports neither torch nor numpy.
"""
