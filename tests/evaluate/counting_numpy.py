"""NumPy that counts the array elements it computes: work, measured without a clock."""

import numpy as np


class Counted(np.ndarray):
    """An array that counts the elements that NumPy computes from it, and from what it computed."""

    elements = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        return _count(getattr(ufunc, method), inputs, options)

    def __array_function__(self, function, types, inputs, options):
        return _count(function, inputs, options)

    def __getitem__(self, index):
        return _count(np.ndarray.__getitem__, (self, index), {})


class CountingNumpy:
    """NumPy, whose functions return arrays that count."""

    def __getattr__(self, name):
        function = getattr(np, name)
        return lambda *inputs, **options: _count(function, inputs, options)


def _count(function, inputs, options):
    return _counted(function(*_plain(inputs), **_plain(options)))


def _counted(result):
    """Count the arrays in the result of a function, and let them count from now on."""
    if type(result) is tuple:
        return tuple(_counted(item) for item in result)
    if not isinstance(result, np.ndarray):
        return result
    Counted.elements += result.size
    return result.view(Counted)


def _plain(value):
    """Return the value with all counting arrays in it as ordinary ones."""
    if isinstance(value, Counted):
        return value.view(np.ndarray)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (tuple, list) else value
