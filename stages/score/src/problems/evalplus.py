# The comparison of evalplus, for the tests of a problem in its format. The names begin with `_`, since the entry point may have any other.
import cmath as _cmath, copy as _copy, json as _json, math as _math


def _integer(text):
    """Parses an integer of any length; `int` refuses more than 4,300 digits at once."""
    if len(text) <= 4000:
        return int(text)
    if text[0] == "-":
        return -_integer(text[1:])
    return _integer(text[:-4000]) * 10**4000 + int(text[-4000:])


def _is_floats(value):
    if type(value) in (list, tuple):
        return value[:1] != value[:0] and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _shape(value):
    """The shape of nested lists as an array; None if they are not rectangular."""
    if not isinstance(value, (list, tuple)):
        return ()
    shapes = {_shape(item) for item in value} or {()}
    return (len(value), *shapes.pop()) if len(shapes) == 1 and None not in shapes else None


def _close(found, expected, tolerance, is_item=False):
    """`numpy.allclose(found, expected, rtol=1e-7, atol=tolerance)` of values of one shape."""
    if isinstance(found, (list, tuple)):
        return all(_close(*pair, tolerance, True) for pair in zip(found, expected))
    for value in (found, expected):
        # An array with an integer of more than 64 bits is one of objects, which numpy does not compare.
        if is_item and isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
            return False
        if not isinstance(value, (int, float, complex)):
            return False
    try:
        expected = expected if isinstance(expected, complex) else float(expected)
        difference = abs(found - expected)
    except OverflowError:
        return False
    return _cmath.isfinite(expected) and difference <= tolerance + 1e-7 * abs(expected) or found == expected


def _same(found, expected, tolerance):
    if found == expected or tolerance == 0:
        return found == expected
    is_comparable = type(found) == type(expected) and _shape(found) == _shape(expected) != None
    return is_comparable and _close(found, expected, tolerance)


def _check(function, reference, inputs, tolerance):
    """Calls both with each list of arguments. Once a result of the reference has floats, a tolerance of 0 is 1e-6, as in evalplus."""
    for arguments in inputs:
        expected = reference(*_copy.deepcopy(arguments))
        found = function(*_copy.deepcopy(arguments))
        if tolerance == 0 and _is_floats(expected):
            tolerance = 1e-6
        assert _same(found, expected, tolerance)


def _check_zero(function, inputs, tolerance):
    """Judges a zero of a polynomial by the polynomial's value: any of its zeros is right."""
    for (coefficients,) in inputs:
        zero = function(_copy.deepcopy(coefficients))
        assert abs(sum(factor * _math.pow(zero, power) for power, factor in enumerate(coefficients))) <= tolerance
