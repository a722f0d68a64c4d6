// Columns of the contract to JavaScript's values, and back.
//
// Written for an interpreter: whole columns go through functions of the engine, and what is left to do for each value stands in plain loops. What the
// runtime hands over: lists of bytes as Uint8Array, every other list as an array of numbers; absent options as null. What it takes back fastest are
// typed arrays of the list's own type. `gristmill build` makes components in which lists of numbers come as their bytes, and the bytes of a column of
// text as a string whose offsets count characters, and go back so.

const NO_BYTES = new Uint8Array(0);
const { isSafeInteger } = Number;
const { slice } = Array.prototype;

/** How texts go back to the host. */
export const boundary = { textIsString: false };

/** A list of numbers as it was handed over, or a look at its bytes. */
const numbersOf = (list, Typed) => (list instanceof Uint8Array ? new Typed(list.buffer, list.byteOffset, list.length / Typed.BYTES_PER_ELEMENT) : list);
/** Where values end, and groups; never as many as do not fit. */
export const offsetsOf = (list) => numbersOf(list, Int32Array);

/** An array of the values of a column, `null` for null. `refuse(row, reason)` is told of integers that a number cannot hold exactly. `whole` is what `wholeOf` gave, where it was called. */
export function read(column, field, rows, refuse, whole) {
  const { validity } = column;
  const decoded = field.kind === "text" ? texts(column.values.val, rows, whole) : decode(column.values.val, field, rows, refuse);
  const found = Array.isArray(decoded) ? decoded : arrayOf(decoded);
  if (validity === null || validity === undefined) return found;
  for (let row = 0; row < rows; row++) {
    if (((validity[row >> 3] >> (row & 7)) & 1) === 0) found[row] = null;
  }
  return found;
}

/** An array of numbers out of a typed one. */
const arrayOf = (numbers) => slice.call(numbers);

/** The same, but what is only to be read one by one may be a typed array. */
export const readable = (column, field, rows, refuse) => ((column.validity ?? null) === null && field.kind !== "text" ? decode(column.values.val, field, rows, refuse) : read(column, field, rows, refuse));

function decode(values, field, rows, refuse) {
  const { width } = field;
  switch (field.kind) {
    case "boolean":
      return Array.from(values, Boolean);
    case "integer":
    case "timestamp": {
      const numbers = numbersOf(values, values.length === rows * 4 ? Int32Array : Float64Array);
      if (!(numbers instanceof Int32Array) && !allSafe(numbers)) numbers.forEach((value, row) => isSafeInteger(value) || refuse(row, beyond(field)));
      return numbers;
    }
    case "float":
      return numbersOf(values, Float64Array);
    case "bytes": {
      const offsets = offsetsOf(values.offsets);
      return Array.from({ length: rows }, (_, row) => values.bytes.slice(offsets[row], offsets[row + 1]));
    }
    default:
      return vectors(numbersOf(values.values, Float32Array), width, rows);
  }
}

/** A 64-bit integer arrives as the nearest number: one beyond may have been another. */
const beyond = ({ name }) => `\`${name}\` is beyond 2^53, which a number does not hold exactly`;

const CHUNK = 8192;

/** Whether all of these whole numbers are exact. */
function allSafe(values) {
  for (let start = 0; start < values.length; start += CHUNK) {
    const some = values.length <= CHUNK ? values : values.slice(start, start + CHUNK);
    if (!isSafeInteger(Math.max.apply(null, some)) || !isSafeInteger(Math.min.apply(null, some))) return false;
  }
  return true;
}

function vectors(numbers, width, rows) {
  const found = new Array(rows);
  for (let row = 0, next = 0; row < rows; row++) {
    if (width > 32) {
      found[row] = slice.call(numbers, next, (next += width));
    } else {
      // To call `slice` costs as much as twenty numbers.
      const vector = [];
      for (let at = 0; at < width; at++) vector[at] = numbers[next++];
      found[row] = vector;
    }
  }
  return found;
}

function texts(packed, rows, whole = wholeOf(packed)) {
  var found = new Array(rows), { text, isText } = whole, offsets = offsetsOf(packed.offsets);
  for (var row = 0, start = 0; row < rows; row++) {
    var value = text.slice(start, (start = offsets[row + 1]));
    found[row] = isText ? value : fromUtf8(value);
  }
  return found;
}

/** All values of a column of text end to end. Bytes become a character each; if they are ASCII, that is the text itself. */
export const wholeOf = ({ bytes }) => (typeof bytes === "string" ? { text: bytes, isText: true } : { text: toLatin1(bytes), isText: isAscii(bytes) });

/** One character for each byte. */
function toLatin1(bytes) {
  // QuickJS has both, as functions of the engine; Node.js 20 lacks the first.
  if (bytes.toBase64 !== undefined) return atob(bytes.toBase64());
  let text = "";
  for (let start = 0; start < bytes.length; start += CHUNK) text += String.fromCharCode.apply(null, bytes.subarray(start, start + CHUNK));
  return text;
}

/** The inverse. Throws for characters that need more than a byte. */
function fromLatin1(text) {
  const base64 = btoa(text);
  if (Uint8Array.fromBase64 !== undefined) return Uint8Array.fromBase64(base64);
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

function isAscii(bytes) {
  var seen = 0, at = 0, words = bytes.byteOffset === 0 ? bytes.length >> 6 : 0;
  if (words >= 4) {
    // Sixteen runs of words side by side: to step through one run costs more than to look at a word.
    var runs = [];
    for (; at < 16; at++) runs[at] = new Int32Array(bytes.buffer, at * words * 4, words);
    var [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = runs;
    for (at = 0; at < words; at++) {
      seen |= a[at] | b[at] | c[at] | d[at] | e[at] | f[at] | g[at] | h[at] | i[at] | j[at] | k[at] | l[at] | m[at] | n[at] | o[at] | p[at];
    }
    at = words << 6;
  }
  for (; at < bytes.length; at++) seen |= bytes[at];
  // Of the single bytes only the last bit of these can be set.
  return (seen & 0x80808080) === 0;
}

const NOT_ASCII = /[^\x00-\x7f]/;

/** Text whose bytes were made characters, as the text that the bytes are. */
const fromUtf8 = (text) => (NOT_ASCII.test(text) ? decodeURIComponent(escape(text)) : text);
/** The inverse. */
const toUtf8 = (text) => (NOT_ASCII.test(text) ? unescape(encodeURIComponent(text)) : text);

/** What is wrong with a value of an output, or nothing. */
export function problem({ name, kind, nullable, width }, value) {
  if (value === undefined) return `\`${name}\` is missing in what was returned`;
  if (value === null) return nullable ? undefined : `\`${name}\` is null; wrap it in nullable() if that is legal`;
  return FITS[kind](value, width) ? undefined : `\`${name}\` is ${shown(value)}; expected ${EXPECTED[kind](width)}`;
}

/** Whether a value is so many numbers. */
export function isVector(value, width) {
  if (!Array.isArray(value) && !ArrayBuffer.isView(value)) return false;
  if (value.length !== width) return false;
  for (let at = 0; at < width; at++) {
    if (typeof value[at] !== "number") return false;
  }
  return true;
}

const FITS = {
  boolean: (value) => typeof value === "boolean",
  integer: isSafeInteger,
  bigint: (value) => typeof value === "bigint" && BigInt.asIntN(64, value) === value,
  float: (value) => typeof value === "number",
  text: (value) => typeof value === "string" && value.isWellFormed(),
  bytes: (value) => value instanceof Uint8Array,
  timestamp: isSafeInteger,
  vector: isVector,
};

const EXPECTED = {
  boolean: () => "a boolean",
  integer: () => "a whole number between -2^53 and 2^53",
  bigint: () => "a bigint of 64 bits",
  float: () => "a number",
  text: () => "a string without halves of surrogate pairs",
  bytes: () => "a Uint8Array",
  timestamp: () => "whole microseconds since 1970, a number",
  vector: (width) => `${width} numbers`,
};

function shown(value) {
  let text;
  try {
    text = typeof value === "bigint" ? `${value}n` : typeof value === "string" || (typeof value === "object" && !ArrayBuffer.isView(value)) ? JSON.stringify(value) : String(value);
  } catch {
    text = typeof value;
  }
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}

/** Where the values of a column are put, one after the other. */
export function empty({ kind }, capacity) {
  const Typed = { boolean: Uint8Array, float: Float64Array, bigint: BigInt64Array, vector: Float32Array }[kind];
  return Typed === undefined ? [] : new Typed(kind === "vector" ? 0 : capacity);
}

/** A bitmap in which so many rows are not null. */
export const allValid = (rows) => new Uint8Array((rows + 7) >> 3).fill(255);

/** The values of a column as the contract has them; none where a text is none. Null has its placeholder there, or is null. `ends` are those of texts, as `Sink` has them, where they are known. */
export function pack({ kind, width, isBytes }, values, rows, ends) {
  switch (kind) {
    case "boolean":
      return { tag: "booleans", val: first(values, rows) };
    case "integer":
      return { tag: "integers", val: values };
    case "bigint":
      return { tag: "integers", val: first(values, rows) };
    case "float":
      return { tag: "floats", val: first(values, rows) };
    case "text": {
      const packed = isBytes ? packUtf8(values, endsOf(values)) : packTexts(values, ends ?? endsOf(values));
      return packed && { tag: isBytes ? "blobs" : "texts", val: packed };
    }
    case "bytes":
      return { tag: "blobs", val: packBytes(values) };
    case "timestamp":
      return { tag: "timestamps", val: values };
    default:
      return { tag: "vectors", val: { width, values: packVectors(values, width, rows) } };
  }
}

const first = (values, rows) => (values.length === rows ? values : values.slice(0, rows));

function packTexts(values, ends) {
  if (boundary.textIsString) {
    // Two halves of a pair, at the end of one text and the beginning of the next, are no character.
    return values.join("\n").isWellFormed() ? { offsets: first(ends, values.length + 1), bytes: values.join("") } : undefined;
  }
  return packUtf8(values, ends);
}

function packUtf8(values, ends) {
  const bytes = asciiBytes(values.join(""));
  if (bytes !== undefined) return { offsets: first(ends, values.length + 1), bytes };
  if (!values.every(FITS.text)) return undefined;
  const encoded = values.map(toUtf8);
  return { offsets: endsOf(encoded), bytes: fromLatin1(encoded.join("")) };
}

/** Where each text ends when they are put end to end, in characters, behind a zero. */
function endsOf(values) {
  var rows = values.length, ends = new Uint32Array(rows + 1);
  for (var row = 0, end = 0; row < rows; ) {
    end += values[row].length;
    ends[++row] = end;
  }
  return ends;
}

/** The bytes of a text that is ASCII; none of another. */
function asciiBytes(text) {
  let bytes;
  try {
    bytes = fromLatin1(text);
  } catch {
    return undefined;
  }
  return isAscii(bytes) ? bytes : undefined;
}

/** Vectors end to end, from an array of them, or from an array in which they are so already; zeros where there are none. */
function packVectors(values, width, rows) {
  if (values.length === rows * width && values instanceof Float32Array) return values;
  const numbers = new Float32Array(rows * width);
  if (values instanceof Float32Array) {
    numbers.set(values.subarray(0, numbers.length));
  } else {
    for (let row = 0; row < rows; row++) if (values[row] !== null) numbers.set(values[row], row * width);
  }
  return numbers;
}

function packBytes(values) {
  const offsets = new Uint32Array(values.length + 1);
  for (let row = 0; row < values.length; row++) offsets[row + 1] = offsets[row] + (values[row]?.length ?? 0);
  const bytes = new Uint8Array(offsets[values.length]);
  values.forEach((value, row) => value === null || bytes.set(value, offsets[row]));
  return { offsets, bytes };
}

/** A column of a whole array of values; fails with a TypeError that names the row. */
export function write(field, given, rows) {
  const { kind, name, nullable } = field;
  if (!Array.isArray(given) && !ArrayBuffer.isView(given)) throw new TypeError(`\`${name}\` is ${given === undefined ? "missing in what was returned" : shown(given)}; expected an array with a value for each row`);
  if (given.length !== rows) throw new TypeError(`\`${name}\` has ${given.length} values for ${rows} rows`);
  const TypedArray = { float: Float64Array, bigint: BigInt64Array }[kind];
  if (TypedArray !== undefined && given instanceof TypedArray) return { values: pack(field, given, rows), validity: undefined };
  const texts = kind === "text" && Array.isArray(given) ? packAll(field, given, rows) : undefined;
  if (texts !== undefined) return { values: texts, validity: undefined };
  // Texts that are all strings are looked at as a whole when they are packed.
  const whole = kind === "integer" || kind === "timestamp";
  const plain = { float: "number", text: "string", boolean: "boolean" }[kind];
  const fits = FITS[kind];
  const values = kind === "vector" ? [] : empty(field, rows);
  let validity;
  for (let row = 0; row < rows; row++) {
    const value = given[row];
    if (whole ? typeof value === "number" && ((value | 0) === value || isSafeInteger(value)) : plain !== undefined ? typeof value === plain : value !== null && fits(value, field.width)) {
      values[row] = value;
    } else if (value === null && nullable) {
      validity ??= allValid(rows);
      validity[row >> 3] &= ~(1 << (row & 7));
      if (Array.isArray(values)) values[row] = placeholder(kind);
    } else {
      throw new TypeError(problem(field, value));
    }
  }
  const packed = pack(field, values, rows);
  if (packed === undefined) {
    const row = values.findIndex((value) => !fits(value));
    throw new TypeError(problem(field, values[row]));
  }
  return { values: packed, validity };
}

/** A column of texts that all are; none where one is not. */
function packAll(field, given, rows) {
  var ends = new Uint32Array(rows + 1);
  for (var row = 0, end = 0; row < rows; ) {
    var value = given[row];
    if (typeof value !== "string") return undefined;
    end += value.length;
    ends[++row] = end;
  }
  return pack(field, given, rows, ends);
}

/** What stands in a column where it is null. */
export const placeholder = (kind) => (kind === "text" ? "" : kind === "bytes" ? NO_BYTES : kind === "vector" ? null : 0);

/**
 * A state as text. JSON, because that can be read again by any version of a transform; what JSON does not hold exactly stands in strings that begin with a
 * zero character (and a string that begins with one has another before it): NaN, the infinities, -0, bigints, bytes.
 */
export function stateText(state) {
  return JSON.stringify(isPlain(state) ? state : marked(state, "the state", 0));
}

/** The inverse. */
export const stateOf = (text) => (text.includes(MARK_IN_JSON) ? JSON.parse(text, (_, value) => (typeof value === "string" ? unmarked(value) : value)) : JSON.parse(text));

const MARK = "\0";
const MARK_IN_JSON = "\\u0000";
const DEPTH_MAX = 100;

/** Whether JSON holds it as it is. Says no too often rather than yes. */
function isPlain(value) {
  switch (typeof value) {
    case "number":
      return value - value === 0 && (value !== 0 || 1 / value > 0);
    case "string":
      return !value.startsWith(MARK);
    case "boolean":
      return true;
    case "object": {
      if (value === null) return true;
      const prototype = Object.getPrototypeOf(value);
      if (prototype !== Object.prototype && prototype !== Array.prototype) return false;
      for (const key in value) {
        const inner = value[key];
        if (typeof inner === "object" ? inner !== null : !isPlain(inner)) return false;
      }
      return prototype === Object.prototype && value.toJSON === undefined;
    }
    default:
      return false;
  }
}

function marked(value, where, depth) {
  switch (typeof value) {
    case "number":
      return isPlain(value) ? value : MARK + (Object.is(value, -0) ? "-0" : String(value));
    case "string":
      return value.startsWith(MARK) ? MARK + value : value;
    case "bigint":
      return `${MARK}${value}n`;
    case "boolean":
      return value;
    case "object": {
      if (value === null) return null;
      if (depth > DEPTH_MAX) throw new TypeError(`${where} is nested too deeply, or contains itself`);
      if (Array.isArray(value)) return Array.from(value, (each, at) => marked(each, `${where}[${at}]`, depth + 1));
      if (value instanceof Uint8Array) return `${MARK}b${btoa(toLatin1(value))}`;
      const prototype = Object.getPrototypeOf(value);
      if (prototype === Object.prototype || prototype === null) {
        const entries = Object.entries(value).filter(([, each]) => each !== undefined);
        return Object.fromEntries(entries.map(([key, each]) => [key, marked(each, `${where}.${key}`, depth + 1)]));
      }
    }
  }
  const what = typeof value === "object" ? `a ${value.constructor?.name}` : value === undefined ? "undefined" : `a ${typeof value}`;
  throw new TypeError(`${where} is ${what}; a state is made of plain objects, arrays, numbers, strings, booleans, null, bigints and Uint8Arrays`);
}

function unmarked(text) {
  if (!text.startsWith(MARK)) return text;
  const rest = text.slice(1);
  if (rest.startsWith(MARK)) return rest;
  if (rest.startsWith("b")) return fromLatin1(atob(rest.slice(1)));
  return rest.endsWith("n") ? BigInt(rest.slice(0, -1)) : Number(rest);
}
