"""The gate: a candidate beside a baseline, told apart by rules that say what they do not know.

from compress.gate.check import CheckRequest, check
check(CheckRequest(Path("student.onnx"), Path("compress-baseline.json"))).outcome
"""
