"""What a pickle would make, from its opcodes alone: nothing is imported, called or built.

The opcodes are followed on a stack of outlines, so that it is known before a pickle is read what it
imports, what it calls, how large the storages are that it asks for, and under which keys its
weights are. Each opcode costs a constant, however large the values would be that it makes.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

# A checkpoint of 6,000 tensors with its average and an optimizer's state has 0.6 million.
LARGEST_NUMBER_OF_OPCODES = 1_000_000
# Values that calls copy out of what the pickle holds once: set(x), Size(x), encode(x).
LARGEST_NUMBER_OF_COPIES = 16_000_000
# A key is hashed in all its parts, each as often as it is there.
LARGEST_KEY = 1_000
LARGEST_DEPTH_OF_KEY = 50
_ENDLESS = 1 << 40


class TooMuch(Exception):
    """The pickle would make more than any checkpoint needs; the text is the end of a sentence."""


@dataclass(slots=True, eq=False)
class Outline:
    """A value that a pickle would make.

    Attributes:
        kind: "atom", "tuple", "list", "dict", "set", "global", "call" or "storage".
        value: of an atom its value, of a global its name, of a call the name of what is called.
        items: of a container what is in it, of a dictionary keys and values in turn, of a call and
            a storage the arguments.
        state: of a call, what its result is set to.
        size: how many values it is, those that are shared counted as often as they are there.
        depth: of tuples in tuples.
    """

    kind: str
    value: Any = None
    items: list[Outline] = field(default_factory=list)
    state: Outline | None = None
    size: int = 1
    depth: int = 0

    def entries(self) -> Iterator[tuple[Outline, Outline]]:
        """Keys and values of a dictionary."""
        return zip(self.items[::2], self.items[1::2], strict=False)


@dataclass
class Survey:
    """One pickle.

    Attributes:
        imports: names that it would import, in order.
        calls: what it would call, in order.
        storages: arguments of what it reads from outside of itself, in order.
        root: the value; None where the pickle is damaged or cut short.
    """

    imports: list[str] = field(default_factory=list)
    calls: list[Outline] = field(default_factory=list)
    storages: list[Outline] = field(default_factory=list)
    root: Outline | None = None


def survey(file: BinaryIO) -> Survey:
    """Follows one pickle, and leaves the file behind it. A damaged one gives what it has.

    Raises:
        TooMuch: it would make more than any checkpoint needs.
    """
    machine = _Machine()
    with warnings.catch_warnings():
        # About escapes in what are no texts at all, in a damaged file.
        warnings.simplefilter("ignore")
        try:
            for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
                if count >= LARGEST_NUMBER_OF_OPCODES:
                    raise TooMuch(f"it has more than {LARGEST_NUMBER_OF_OPCODES:,} opcodes")
                machine.step(opcode.name, argument)
        except (ValueError, EOFError, IndexError, KeyError, OverflowError, MemoryError):
            machine.found.root = None
    return machine.found


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self) -> None:
        self.found = Survey()
        self.stack: list[Outline] = []
        self.marks: list[list[Outline]] = []
        self.memo: dict[int, Outline] = {}
        self.copies = 0
        self.actions: dict[str, Callable[[Any], None]] = {
            name[1:].upper(): getattr(self, name) for name in _ACTIONS
        }

    def step(self, name: str, argument: Any) -> None:
        """One opcode.

        Raises:
            TooMuch: see ``survey``.
            ValueError, IndexError, KeyError: the pickle is damaged.
        """
        action = self.actions.get(name)
        if action is not None:
            action(argument)
        elif name in _CONSTANTS:
            self.stack.append(Outline("atom", _CONSTANTS[name]))
        elif name in _LITERALS:
            self.stack.append(Outline("atom", argument))
        elif name in _EMPTY:
            self.stack.append(Outline(_EMPTY[name]))
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"{name} is not allowed in a checkpoint")

    def _stop(self, argument: Any) -> None:
        del argument
        self.found.root = self.stack.pop()

    def _mark(self, argument: Any) -> None:
        del argument
        self.marks.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Outline]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _pop(self, argument: Any) -> None:
        del argument
        if self.stack:
            self.stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self, argument: Any) -> None:
        del argument
        self._since_mark()

    def _dup(self, argument: Any) -> None:
        del argument
        self.stack.append(self.stack[-1])

    def _put(self, argument: Any) -> None:
        self.memo[int(argument)] = self.stack[-1]

    _binput = _long_binput = _put

    def _memoize(self, argument: Any) -> None:
        del argument
        self.memo[len(self.memo)] = self.stack[-1]

    def _get(self, argument: Any) -> None:
        self.stack.append(self.memo[int(argument)])

    _binget = _long_binget = _get

    def _make_tuple(self, items: list[Outline]) -> None:
        size = min(_ENDLESS, 1 + sum(item.size for item in items))
        depth = 1 + max((item.depth for item in items), default=0)
        self.stack.append(Outline("tuple", items=items, size=size, depth=depth))

    def _tuple(self, argument: Any) -> None:
        del argument
        self._make_tuple(self._since_mark())

    def _take(self, count: int) -> list[Outline]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _tuple1(self, argument: Any) -> None:
        del argument
        self._make_tuple(self._take(1))

    def _tuple2(self, argument: Any) -> None:
        del argument
        self._make_tuple(self._take(2))

    def _tuple3(self, argument: Any) -> None:
        del argument
        self._make_tuple(self._take(3))

    def _list(self, argument: Any) -> None:
        del argument
        self.stack.append(Outline("list", items=self._since_mark()))

    def _append(self, argument: Any) -> None:
        del argument
        (item,) = self._take(1)
        self.stack[-1].items.append(item)

    def _appends(self, argument: Any) -> None:
        del argument
        items = self._since_mark()
        self.stack[-1].items += items

    def _set(self, target: Outline, items: list[Outline]) -> None:
        for key in items[::2]:
            _check_key(key)
        if target.kind == "call" and target.value == "collections.OrderedDict":
            target.kind, target.items = "dict", []
        target.items += items

    def _dict(self, argument: Any) -> None:
        del argument
        items = self._since_mark()
        self.stack.append(Outline("dict"))
        self._set(self.stack[-1], items)

    def _setitem(self, argument: Any) -> None:
        del argument
        items = self._take(2)
        self._set(self.stack[-1], items)

    def _setitems(self, argument: Any) -> None:
        del argument
        items = self._since_mark()
        self._set(self.stack[-1], items)

    def _additems(self, argument: Any) -> None:
        del argument
        items = self._since_mark()
        for item in items:
            _check_key(item)
        self.stack[-1].items += items

    def _frozenset(self, argument: Any) -> None:
        del argument
        items = self._since_mark()
        for item in items:
            _check_key(item)
        self._make_tuple(items)

    def _global(self, argument: Any) -> None:
        name = str(argument).replace(" ", ".")
        self.found.imports.append(name)
        self.stack.append(Outline("global", name))

    def _stack_global(self, argument: Any) -> None:
        del argument
        module, name = self._take(2)
        self._global(f"{module.value} {name.value}")

    def _call(self, function: Outline, arguments: Sequence[Outline]) -> None:
        name = str(function.value)
        if function.kind != "global":
            name = f"what a {function.kind} gives"
        if not name.startswith("torch._utils."):  # whose functions keep what they are given
            for argument in arguments:
                self._copy(name, argument)
        size = min(_ENDLESS, 1 + sum(argument.size for argument in arguments))
        depth = 1 + max((argument.depth for argument in arguments), default=0)
        call = Outline("call", name, list(arguments), size=size, depth=depth)
        self.found.calls.append(call)
        self.stack.append(call)

    def _copy(self, name: str, argument: Outline) -> None:
        """Counts what a call takes out of one argument."""
        made = argument.kind in ("call", "storage") and argument.value != "_codecs.encode"
        if made and not name.endswith(("Parameter", "multiarray.scalar", "numpy.dtype")):
            raise ValueError(f"{name} is called with the result of another call")
        self.copies += len(argument.items)
        if isinstance(argument.value, str | bytes | bytearray):
            self.copies += len(argument.value)
        elif isinstance(argument.value, int) and name.endswith("bytearray"):
            self.copies += abs(argument.value)
        self._check_copies()
        for item in argument.items:
            _check_key(item)

    def _check_copies(self) -> None:
        if self.copies > LARGEST_NUMBER_OF_COPIES:
            raise TooMuch(
                f"it would copy more than {LARGEST_NUMBER_OF_COPIES:,} values out of what it holds "
                "once"
            )

    def _reduce(self, argument: Any) -> None:
        del argument
        function, arguments = self._take(2)
        self._call(function, _several(arguments))

    _newobj = _reduce

    def _newobj_ex(self, argument: Any) -> None:
        del argument
        function, arguments, named = self._take(3)
        self._call(function, [*_several(arguments), *named.items[1::2]])

    def _obj(self, argument: Any) -> None:
        del argument
        function, *arguments = self._since_mark()
        self._call(function, arguments)

    def _inst(self, argument: Any) -> None:
        arguments = self._since_mark()
        self._global(argument)
        self._call(self.stack.pop(), arguments)

    def _build(self, argument: Any) -> None:
        del argument
        (state,) = self._take(1)
        self.copies += len(state.items)
        self._check_copies()
        self.stack[-1].state = state

    def _binpersid(self, argument: Any) -> None:
        del argument
        (identity,) = self._take(1)
        storage = Outline("storage", items=identity.items)
        self.found.storages.append(storage)
        self.stack.append(storage)


_ACTIONS = (
    *("_stop", "_mark", "_pop", "_pop_mark", "_dup", "_put", "_binput", "_long_binput"),
    *("_memoize", "_get", "_binget", "_long_binget", "_tuple", "_tuple1", "_tuple2", "_tuple3"),
    *("_list", "_append", "_appends", "_dict", "_setitem", "_setitems", "_additems"),
    *("_frozenset", "_global", "_stack_global", "_reduce", "_newobj", "_newobj_ex", "_obj"),
    *("_inst", "_build", "_binpersid"),
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": "list", "EMPTY_TUPLE": "tuple", "EMPTY_DICT": "dict", "EMPTY_SET": "set"}
_LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
    )
)


def _several(arguments: Outline) -> list[Outline]:
    """The arguments of a call."""
    if arguments.kind != "tuple":
        raise ValueError(f"a call has a {arguments.kind} as its arguments")
    return arguments.items


def _check_key(key: Outline) -> None:
    """Raises where hashing a value would take long, or go too deep."""
    if key.size > LARGEST_KEY or key.depth > LARGEST_DEPTH_OF_KEY:
        raise TooMuch("one of its keys is made of tuples in tuples")
