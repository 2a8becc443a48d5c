"""Teacher and budget in, a student in a file that can ship out.

run                the stages in their order, from the teacher to result.json
request            what a run is asked for
context            what all stages need
choosing           which runtime and which student
learning           the training, and what other processes do in it
exporting          teacher and student as files, timed and scored
reduced_precision  the student in fp16, bf16 or int8, and what that costs
result             what a run came to, which is result.json
names              the files in the run folder

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
from compress.pipelines.distill.request import DistillListener, DistillRequest, check_words
from compress.pipelines.distill.result import DistillResult
from compress.pipelines.distill.run import distill

__all__ = [
    "CHOICE",
    "FLOAT_ONNX",
    "STUDENT",
    "STUDENT_ONNX",
    "TEACHER_ONNX",
    "TRADEOFF",
    "DistillListener",
    "DistillRequest",
    "DistillResult",
    "assist",
    "check_words",
    "distill",
]
