"""TensorRT engines: building, describing, checking and running them.

Below ``compress.exporting``, which proves them, and ``compress.profiling``, which times them.
"""
