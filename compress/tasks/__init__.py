"""What data ask of a network: targets, the loss on them, the score, and how two models compare.

``task.py`` has the protocol, a folder or file beside it each task, ``registry.py`` their names.
"""
