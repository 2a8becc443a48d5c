"""Teacher and budget in, a student in a file that can ship out.

request     what a run is asked for
run         its stages, from the teacher to result.json
learning    the training, and what other processes do in it
narrowing   the student in fewer bits, and what that costs
result      what result.json says
names       of the files in the run folder

Choices look at the validation images. The test images are looked at once, at the end.
"""

from compress.pipelines.distill.learning import assist
from compress.pipelines.distill.names import (
    CHOICE,
    FLOAT_ONNX,
    STUDENT,
    STUDENT_ONNX,
    TEACHER_ONNX,
    TRADEOFF,
)
from compress.pipelines.distill.request import DistillListener, Request, check_words
from compress.pipelines.distill.run import distill

__all__ = [
    "CHOICE",
    "FLOAT_ONNX",
    "STUDENT",
    "STUDENT_ONNX",
    "TEACHER_ONNX",
    "TRADEOFF",
    "DistillListener",
    "Request",
    "assist",
    "check_words",
    "distill",
]
