"""The names of the files in a run folder, beside those of ``compress.training.runfolder``."""

STUDENT, STUDENT_ONNX, TEACHER_ONNX = "student.safetensors", "student.onnx", "teacher.onnx"
# What a finished run is for; it is whole when these are the files that it made.
SHIPPED = (STUDENT, STUDENT_ONNX, TEACHER_ONNX)
# Beside a student.onnx of reduced precision: what it was made of.
FLOAT_ONNX = "student.fp32.onnx"
# A fine-tuned one until it is known to be better, and the folder of its training.
TUNED_ONNX, FINE_TUNING = "student.tuned.onnx", "fine-tuning"
TRADEOFF, CHOICE = "tradeoff.csv", "choice.json"
