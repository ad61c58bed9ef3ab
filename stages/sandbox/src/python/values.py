# Plain data as JSON: what crosses the link between the checker and the candidate.
#
# null, true, false, text, integers, floats and lists are themselves; all else is an object with one key:
#   {"t": items} tuple    {"s": items} set    {"z": items} frozenset    {"d": pairs} dict    {"b": hex} bytes
#   {"B": hex} bytearray  {"i": hex} a long integer    {"c": [re, im]} complex    {"D": text} Decimal
#   {"F": [n, d]} Fraction    {"m": id} an object of the sender    {"y": id} an object of the receiver
#
# A subclass of a plain type is sent as the plain type, by the methods of the plain type: what its own `__eq__`,
# `__iter__` or `__hash__` would say never reaches the receiver.
import decimal, fractions, json, os, types

LONG = 1 << 4096
# Values of these types are sent as they are, and so is a list of them.
SCALARS = frozenset((type(None), bool, str, float))
DECODED_SCALARS = SCALARS | {int}
INTEGERS = {int}

# Made once: `json.dumps` with separators makes one for each call.
to_json = json.JSONEncoder(separators=(",", ":")).encode
from_json = json.JSONDecoder().decode


class Foreign:
    """An object of the other process: operations are requests, and equality is identity."""

    __slots__ = ("_peer", "_id")

    def __init__(self, peer, id):
        self._peer, self._id = peer, id

    def __call__(self, *args, **kwargs):
        return self._peer.call(self._id, args, kwargs)

    def __getattr__(self, name):
        return self._peer.request("attribute", self._id, name)

    def __len__(self):
        return self._peer.request("length", self._id)

    def __getitem__(self, index):
        return self._peer.request("item", self._id, self._peer.encode(index))

    def __contains__(self, item):
        return self._peer.request("contains", self._id, self._peer.encode(item)) is True

    def __iter__(self):
        iterator = self._peer.request("iterate", self._id)
        if type(iterator) is not Foreign:
            raise TypeError("the object is not iterable")
        while True:
            more = self._peer.request("next", iterator._id)
            if type(more) is not list or not more:
                return
            yield more[0]

    def __bool__(self):
        return True

    def __eq__(self, other):
        return type(other) is Foreign and other._id == self._id

    def __hash__(self):
        return hash(self._id)


class LinkFault(BaseException):
    """The other end closed the link or broke its protocol. Tests that catch `Exception` do not catch it."""


class Peer:
    """One end of the link. `exports` returns whether the other end may hold an object of this process."""

    def __init__(self, descriptor, exports):
        self.descriptor, self.exports, self.objects, self.ids = descriptor, exports, [], {}
        self.fault = None
        # What was read beyond the last message.
        self.rest = b""

    # Messages: eight bytes of length, then JSON.
    def send(self, *message):
        data = to_json(message).encode()
        try:
            write_all(self.descriptor, len(data).to_bytes(8, "little") + data)
        except OSError as error:
            raise self.failed(str(error))

    def receive(self):
        try:
            length = int.from_bytes(self.read(8), "little")
            message = from_json(self.read(length).decode()) if length <= 1 << 28 else None
        except (EOFError, OSError):
            raise self.failed("the candidate's process ended before the tests")
        except (ValueError, RecursionError):
            message = None
        if type(message) is not list or len(message) < 2:
            raise self.failed("the candidate's process sent a malformed message")
        return message

    def read(self, length):
        """Reads this many bytes, mostly together with those that follow."""
        data = self.rest
        if len(data) < length:
            parts, missing = [data], length - len(data)
            while missing > 0:
                part = os.read(self.descriptor, max(1 << 14, min(missing, 1 << 20)))
                if not part:
                    raise EOFError
                parts.append(part)
                missing -= len(part)
            data = b"".join(parts)
        self.rest = data[length:]
        return data[:length]

    def failed(self, reason):
        self.fault = reason
        return LinkFault(reason)

    def request(self, *message):
        """Sends a request and returns the value of its reply; serves the other end's requests until it comes."""
        self.send(*message)
        while True:
            reply = self.receive()
            if reply[0] == "value":
                return self.decode(reply[1])
            if reply[0] == "raise":
                raise rebuilt(*reply[1:])
            self.answer(reply)

    def call(self, id, args, kwargs):
        """Calls an object of the other end, and repeats here what the call changed in its arguments."""
        values = [*args, *kwargs.values()]
        result, changed = self.request("call", id, self.encode_items(values), list(kwargs))
        for index, new in changed:
            replace(values[index], new)
        return result

    def answer(self, message):
        try:
            value = self.perform(*message)
        except BaseException as error:
            number = error.errno if isinstance(error, OSError) and type(error.errno) is int else None
            bases = [base.__name__ for base in type(error).__mro__]
            text = text_of(error) if number is None else os.strerror(number)
            self.send("raise", bases, text, number)
        else:
            self.send("value", value)

    def perform(self, operation, *operands):
        if operation == "name":
            return self.encode(self.named(operands[0]))
        target = self.objects[operands[0]]
        if operation == "call":
            names = operands[2]
            values = self.decode_items(operands[1])
            positional = len(values) - len(names)
            result = target(*values[:positional], **dict(zip(names, values[positional:])))
            changed = [[i, self.encode(v)] for i, v in enumerate(values)
                       if type(v) in MUTABLE and self.encode(v) != operands[1][i]]
            return [self.encode(result), changed]
        if self.named is None:
            raise TypeError("the object can only be called")
        if operation == "attribute":
            return self.encode(getattr(target, operands[1]))
        if operation == "length":
            return self.encode(len(target))
        if operation == "item":
            return self.encode(target[self.decode(operands[1])])
        if operation == "contains":
            return self.encode(self.decode(operands[1]) in target)
        if operation == "iterate":
            return self.mine(iter(target))
        if operation == "next":
            for item in target:
                return [self.encode(item)]
            return []
        raise ValueError("unknown operation")

    # `named` finds an object by its name; an end that has none only lets its objects be called.
    named = None

    def mine(self, value):
        id = self.ids.get(builtin_id(value))
        if id is None:
            id = self.ids[builtin_id(value)] = len(self.objects)
            self.objects.append(value)
        return {"m": id}

    def encode(self, value):
        kind = type(value)
        if kind in SCALARS:
            return value
        if kind is int:
            return value if -LONG < value < LONG else {"i": hex(value)}
        if kind is list:
            return self.encode_items(value)
        if kind is tuple:
            return {"t": self.encode_items(value)}
        if kind is Foreign:
            return {"y": value._id}
        for base, tag in PLAIN:
            if issubclass(kind, base):
                return tag(self, value)
        if not self.exports(value):
            raise TypeError("cannot send an object of type " + kind.__name__)
        return self.mine(value)

    def encode_items(self, values):
        """The list of the encoded items of a list or tuple; in one pass where none needs to be changed."""
        kinds = set(map(type, values))
        if kinds <= SCALARS or kinds == INTEGERS and -LONG < min(values) and max(values) < LONG:
            return list(values)
        return [self.encode(item) for item in values]

    def decode(self, value):
        kind = type(value)
        if kind is list:
            return self.decode_items(value)
        if kind is not dict:
            return value
        (tag, content), = value.items()
        if tag == "m":
            return Foreign(self, int(content))
        if tag == "y":
            return self.objects[content]
        return DECODE[tag](self, content)

    def decode_items(self, values):
        """A new list of the decoded items."""
        if DECODED_SCALARS.issuperset(map(type, values)):
            return list(values)
        return [self.decode(item) for item in values]


def items(base):
    return lambda peer, value: peer.encode_items(list(base.__iter__(value)))


def pairs(peer, value):
    return {"d": [[peer.encode(key), peer.encode(item)] for key, item in dict.items(value)]}


list_items, tuple_items, set_items, frozen_items = items(list), items(tuple), items(set), items(frozenset)

# Subclasses included; in this order, so that a bool is never an int.
PLAIN = [
    (int, lambda peer, value: peer.encode(int.__index__(value))),
    (float, lambda peer, value: float.__float__(value)),
    (str, lambda peer, value: str.__str__(value)),
    (list, lambda peer, value: list_items(peer, value)),
    (tuple, lambda peer, value: {"t": tuple_items(peer, value)}),
    (dict, pairs),
    (set, lambda peer, value: {"s": set_items(peer, value)}),
    (frozenset, lambda peer, value: {"z": frozen_items(peer, value)}),
    (bytes, lambda peer, value: {"b": bytes.hex(value)}),
    (bytearray, lambda peer, value: {"B": bytearray.hex(value)}),
    (complex, lambda peer, value: {"c": [value.real, value.imag]}),
    (decimal.Decimal, lambda peer, value: {"D": decimal.Decimal.__str__(value)}),
    (fractions.Fraction, lambda peer, value: {"F": [peer.encode(value.numerator), peer.encode(value.denominator)]}),
]

DECODE = {
    "t": lambda peer, content: tuple(peer.decode_items(content)),
    "s": lambda peer, content: {peer.decode(item) for item in content},
    "z": lambda peer, content: frozenset([peer.decode(item) for item in content]),
    "d": lambda peer, content: {peer.decode(key): peer.decode(item) for key, item in content},
    "b": lambda peer, content: bytes.fromhex(content),
    "B": lambda peer, content: bytearray.fromhex(content),
    "i": lambda peer, content: int(content, 16),
    "c": lambda peer, content: complex(float(content[0]), float(content[1])),
    "D": lambda peer, content: decimal.Decimal(content),
    "F": lambda peer, content: fractions.Fraction(peer.decode(content[0]), peer.decode(content[1])),
}

MUTABLE = (list, dict, set, bytearray)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)
builtin_id = id


def replace(old, new):
    """Replaces the contents of the plain container `old` by those of `new`."""
    if type(old) is not type(new) or type(old) not in MUTABLE:
        raise TypeError("an argument changed its type")
    if type(old) in (list, bytearray):
        old[:] = new
    else:
        old.clear()
        old.update(new)


def rebuilt(bases, text, number):
    """The built-in exception nearest to what the other end raised."""
    import builtins

    for name in bases:
        base = getattr(builtins, name, None)
        if isinstance(base, type) and issubclass(base, Exception):
            # It would end a loop of the tests as if its items were all there were.
            if issubclass(base, (StopIteration, StopAsyncIteration)):
                break
            prefix = "" if name == bases[0] else bases[0] + ": "
            try:
                return base(number, text) if number is not None and issubclass(base, OSError) else base(prefix + text)
            except TypeError:
                continue
    return RuntimeError(bases[0] + ": " + text)


def text_of(error):
    """Returns the type and message of an exception. Lone surrogates are written as escapes: the host reads UTF-8."""
    try:
        return str(error)[:1000].encode("utf-8", "backslashreplace").decode()
    except BaseException:
        return ""


def described(error):
    text = text_of(error)
    return type(error).__name__ + ": " + text if text else type(error).__name__


def write_all(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


def read_all(descriptor):
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def read_text(descriptor):
    return read_all(descriptor).decode("utf-8", "surrogatepass")
