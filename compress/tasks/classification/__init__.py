"""One label an image, one row of logits as the answer: what is right has the label's largest."""

from compress.tasks.classification.accuracy import LOGITS
from compress.tasks.classification.paired import ACCURACY, Paired
from compress.tasks.classification.task import Classification

__all__ = ["ACCURACY", "LOGITS", "Classification", "Paired"]
