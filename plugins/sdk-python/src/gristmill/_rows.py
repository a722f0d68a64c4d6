"""The loop over the rows of a batch, written out for one transform: in an interpreter it is steps that cost, and objects that are made only to be taken apart.

A text is kept with its length, because the ends of texts in a column are sums of lengths.
"""

import array

SOURCE = "<the loop over rows>"
"""The file that frames of what is written here name."""


def taker(outputs: list, by_name: bool):
    """A function from one returned row to a tuple: the value of each output, then the length of each text. `outputs` are names and kinds; `by_name` says that they
    are items of a mapping, else attributes."""
    lines, taken = _take(outputs, by_name)
    return _compiled("take", ["def take(made):", *_indented(lines), f"    return ({', '.join(taken)},)"])


def loop(inputs: list, outputs: list, by_name: bool, settings: bool, one_each: bool, is_plain: bool):
    """A function `(function, settings, refuse, *columns)` that calls the author's function for each row and gives a list for each output, a list for each text of
    where its values end in characters when they are put end to end, and the event of each row, where it is not `one_each`.

    `refuse(event, error, made)` is told of an event that failed, and of what was returned for it; where there is one row of each, `event` is the number of rows
    before it. Where a batch `is_plain`, a column of text is all of it and where its values end.
    """
    cut = [at for at, (_, kind) in enumerate(inputs) if is_plain and kind.name == "text"]
    columns = [f"column{at}" for at in range(len(inputs))]
    values = [f"value{at}" for at in range(len(inputs))]
    each = [f"end_of{at}" if at in cut else value for at, value in enumerate(values)]
    made = f"made = function({', '.join(values)}{', settings=settings' if settings else ''})"
    take, taken = _take(outputs, by_name)
    texts = [at for at, (_, kind) in enumerate(outputs) if kind.name == "text"]
    keep = [f"column_out{at}.append(out{at})" for at in range(len(outputs))]
    keep += [line for at in texts for line in (f"end{at} += length{at}", f"ends{at}.append(end{at})")]
    if one_each:
        body, kept, event = [made, *take], keep, "len(column_out0)"
    else:
        picked = f"rows = [take(each) for each in made] if isinstance(made, list) else (take(made),)"
        body, event = [made, "if made is None:", "    continue", picked], "event"
        kept = [f"for {', '.join(taken)}, in rows:", *_indented([*keep, "origins.append(event)"])]
    turn = [
        *([] if one_each else ["event += 1"]),
        *[line for at in cut for line in (f"value{at} = whole{at}[start{at}:end_of{at}]", f"start{at} = end_of{at}")],
        "try:",
        *_indented(body),
        # Whatever the author's function raises, an iterator's end among it.
        "except Exception as error:",
        f"    refuse({event}, error, made)",
        "    made = None",
        "    continue",
        *kept,
    ]
    rows = columns[0] if len(columns) == 1 else f"zip({', '.join(columns)})"
    outs = [f"column_out{at}" for at in range(len(outputs))]
    ends = [f"ends{at}" if at in texts else "None" for at in range(len(outputs))]
    source = [
        f"def loop(function, settings, refuse, {', '.join(columns)}):",
        "    made, origins, event = None, [], -1",
        *[f"    whole{at}, column{at} = column{at}; start{at} = 0" for at in cut],
        *[f"    {out} = []" for out in outs],
        *[f"    end{at}, ends{at} = 0, [0]" for at in texts],
        f"    for {', '.join(each)} in {rows}:",
        *_indented(_indented(turn)),
        f"    return [{', '.join(outs)}], [{', '.join(ends)}], origins",
    ]
    return _compiled("loop", source, take=taker(outputs, by_name))


def _take(outputs: list, by_name: bool) -> tuple[list[str], list[str]]:
    """Lines that take the values out of what was `made`, and the names that have them."""
    lines, lengths = [], []
    for at, (name, kind) in enumerate(outputs):
        value = f"made[{name!r}]" if by_name else f"made.{name}"
        # The author may use what can be changed again.
        lines.append(f"out{at} = settled({value})" if kind.name in ("bytes", "vector") else f"out{at} = {value}")
        if kind.name == "text":
            lines.append(f"length{at} = len(out{at})" if not kind.nullable else f"length{at} = 0 if out{at} is None else len(out{at})")
            lengths.append(f"length{at}")
    return lines, [f"out{at}" for at in range(len(outputs))] + lengths


def _settled(value):
    """A value that nobody changes any more."""
    if type(value) is bytearray:
        return bytes(value)
    return tuple(value) if isinstance(value, (list, array.array)) else value


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _compiled(name: str, lines: list[str], **names):
    names = {"settled": _settled, **names}
    exec(compile("\n".join(lines), SOURCE, "exec"), names)
    return names[name]
