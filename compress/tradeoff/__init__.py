"""Which student to train: what candidates take, and how good they are expected to be."""

from compress.tradeoff.choice import Choice, RuntimeChoice, TradeoffRow
from compress.tradeoff.fastest import choose_runtime, with_runtime
from compress.tradeoff.precisions import refuse_unrunnable, try_precisions
from compress.tradeoff.runs import OwnRun, Plan, record_run
from compress.tradeoff.storage import write_csv
from compress.tradeoff.table import TradeoffTable, load_table, table_for
from compress.tradeoff.trials import PrecisionTrial

__all__ = [
    "Choice",
    "OwnRun",
    "Plan",
    "PrecisionTrial",
    "RuntimeChoice",
    "TradeoffRow",
    "TradeoffTable",
    "choose_runtime",
    "load_table",
    "record_run",
    "refuse_unrunnable",
    "table_for",
    "try_precisions",
    "with_runtime",
    "write_csv",
]
