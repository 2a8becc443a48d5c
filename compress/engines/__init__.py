"""TensorRT engines: building, describing, checking and running them.

Below ``compress.export``, which proves them, and ``compress.profiling``, which times them.
"""
