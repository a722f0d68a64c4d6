// Columns of the contract to arrays of JavaScript values, and back.
//
// Written for an interpreter: whole columns go through functions of the engine, and what is left to do for each value stands in plain loops.

const NO_BYTES = new Uint8Array(0);

/** The values of a column, `null` for null. `refuse(row, reason)` is told of integers that a number cannot hold exactly. */
export function read(column, field, rows, refuse) {
  const found = decode(column.values.val, field, rows, refuse);
  const validity = column.validity;
  if (validity === undefined || validity === null) return found;
  for (let row = 0; row < rows; row++) {
    if (((validity[row >> 3] >> (row & 7)) & 1) === 0) found[row] = null;
  }
  return found;
}

function decode(values, { kind, name, width }, rows, refuse) {
  switch (kind) {
    case "boolean":
      return Array.from(values, Boolean);
    case "integer":
    case "timestamp":
      if (!values.every(Number.isSafeInteger)) {
        const beyond = `\`${name}\` is beyond 2^53, which a number does not hold exactly`;
        values.forEach((value, row) => Number.isSafeInteger(value) || refuse(row, beyond));
      }
      return values;
    case "float":
      return values;
    case "text":
      return texts(values, rows);
    case "bytes":
      return Array.from({ length: rows }, (_, row) => values.bytes.slice(values.offsets[row], values.offsets[row + 1]));
    default:
      return Array.from({ length: rows }, (_, row) => Array.from(values.values.slice(row * width, (row + 1) * width)));
  }
}

function texts({ offsets, bytes }, rows) {
  const whole = toLatin1(bytes);
  const found = new Array(rows);
  let start = 0;
  if (isAscii(bytes)) {
    for (let row = 0; row < rows; row++) {
      const end = offsets[row + 1];
      found[row] = whole.slice(start, end);
      start = end;
    }
  } else {
    for (let row = 0; row < rows; row++) {
      const end = offsets[row + 1];
      found[row] = fromUtf8(whole.slice(start, end));
      start = end;
    }
  }
  return found;
}

/** One character for each byte. */
function toLatin1(bytes) {
  // QuickJS has both, as functions of the engine; Node.js 20 lacks the first.
  if (bytes.toBase64 !== undefined) return atob(bytes.toBase64());
  let text = "";
  for (let start = 0; start < bytes.length; start += 8192) text += String.fromCharCode.apply(null, bytes.subarray(start, start + 8192));
  return text;
}

/** The inverse, for characters below 256. */
function fromLatin1(text) {
  // `btoa` throws for other characters, with Node.js too.
  const base64 = btoa(text);
  if (Uint8Array.fromBase64 !== undefined) return Uint8Array.fromBase64(base64);
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

const NOT_ASCII = /[^\x00-\x7f]/;

function isAscii(bytes) {
  const whole = bytes.length & ~3;
  // Four bytes at a time; a copy begins where such words may begin.
  const words = new Uint32Array(bytes.slice(0, whole).buffer);
  const count = words.length;
  let seen = 0;
  for (let at = 0; at < count; at++) seen |= words[at];
  for (let at = whole; at < bytes.length; at++) seen |= bytes[at];
  return (seen & 0x80808080) === 0;
}

/** Text whose bytes were made characters, as the text that the bytes are. */
export const fromUtf8 = (text) => (NOT_ASCII.test(text) ? decodeURIComponent(escape(text)) : text);
/** The inverse. */
export const toUtf8 = (text) => (NOT_ASCII.test(text) ? unescape(encodeURIComponent(text)) : text);

/** Text as bytes. */
export const encode = (text) => fromLatin1(toUtf8(text));
/** Bytes as text. */
export const decodeText = (bytes) => fromUtf8(toLatin1(bytes));

/** What is wrong with a value of an output, or nothing. */
export function problem({ name, kind, nullable, width }, value) {
  if (value === undefined) return `\`${name}\` is missing in what was returned`;
  if (value === null) return nullable ? undefined : `\`${name}\` is null; wrap it in nullable() if that is legal`;
  return FITS[kind](value, width) ? undefined : `\`${name}\` is ${shown(value)}; expected ${EXPECTED[kind](width)}`;
}

const FITS = {
  boolean: (value) => typeof value === "boolean",
  integer: (value) => Number.isSafeInteger(value),
  float: (value) => typeof value === "number",
  text: (value) => typeof value === "string" && (value.isWellFormed?.() ?? true),
  bytes: (value) => value instanceof Uint8Array,
  timestamp: (value) => Number.isSafeInteger(value),
  vector: (value, width) => value.length === width && Array.prototype.every.call(value, (number) => typeof number === "number"),
};

const EXPECTED = {
  boolean: () => "a boolean",
  integer: () => "a whole number between -2^53 and 2^53",
  float: () => "a number",
  text: () => "a string without halves of surrogate pairs",
  bytes: () => "a Uint8Array",
  timestamp: () => "whole microseconds since 1970, a number",
  vector: (width) => `${width} numbers`,
};

const shown = (value) => {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
};

/** A column of these values; none where one of them is not right, of which `problem` then says what is wrong. */
export function write(field, values) {
  const rows = values.length;
  let validity;
  if (field.nullable) {
    for (let row = values.indexOf(null); row >= 0; row = values.indexOf(null, row + 1)) {
      validity ??= new Uint8Array((rows + 7) >> 3).fill(255);
      validity[row >> 3] &= ~(1 << (row & 7));
    }
  }
  const packed = pack(field, validity === undefined ? values : values.map((value) => (value === null ? placeholder(field) : value)));
  return packed && { values: packed, validity };
}

function placeholder({ kind, width }) {
  switch (kind) {
    case "boolean":
      return false;
    case "text":
      return "";
    case "bytes":
      return NO_BYTES;
    case "vector":
      return new Array(width).fill(0);
    default:
      return 0;
  }
}

function pack({ kind, width }, values) {
  switch (kind) {
    case "boolean":
      return values.every(FITS.boolean) ? { tag: "booleans", val: Uint8Array.from(values) } : undefined;
    case "integer":
      return values.every(Number.isSafeInteger) ? { tag: "integers", val: values } : undefined;
    case "float":
      return values.every(Number.isFinite) || values.every(FITS.float) ? { tag: "floats", val: values } : undefined;
    case "text": {
      const packed = packTexts(values);
      return packed && { tag: "texts", val: packed };
    }
    case "bytes":
      return values.every(FITS.bytes) ? { tag: "blobs", val: packBytes(values) } : undefined;
    case "timestamp":
      return values.every(Number.isSafeInteger) ? { tag: "timestamps", val: values } : undefined;
    default: {
      if (!values.every((value) => FITS.vector(value, width))) return undefined;
      return { tag: "vectors", val: { width, values: values.flatMap((value) => Array.from(value, Math.fround)) } };
    }
  }
}

function packTexts(values) {
  const offsets = [0];
  let length = 0;
  for (let row = 0; row < values.length; row++) {
    const value = values[row];
    if (typeof value !== "string") return undefined;
    length += value.length;
    offsets[row + 1] = length;
  }
  const bytes = asciiBytes(values.join(""));
  if (bytes !== undefined) return { offsets, bytes };
  if (!values.every(FITS.text)) return undefined;
  const encoded = values.map(toUtf8);
  length = 0;
  for (let row = 0; row < encoded.length; row++) {
    length += encoded[row].length;
    offsets[row + 1] = length;
  }
  return { offsets, bytes: fromLatin1(encoded.join("")) };
}

/** The bytes of a text that is ASCII; none of another. */
function asciiBytes(text) {
  let bytes;
  try {
    bytes = fromLatin1(text);
  } catch {
    return undefined;
  }
  return isAscii(bytes) && bytes.length === text.length ? bytes : undefined;
}

function packBytes(values) {
  const offsets = [0];
  for (const value of values) offsets.push(offsets[offsets.length - 1] + value.length);
  const bytes = new Uint8Array(offsets[values.length]);
  values.forEach((value, row) => bytes.set(value, offsets[row]));
  return { offsets, bytes };
}
