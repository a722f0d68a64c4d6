// Columns of the contract to arrays of JavaScript values, and back.

/** The values of a column, `null` for null. `refuse(row, reason)` is told of integers that a number cannot hold exactly. */
export function read(column, field, rows, refuse) {
  const values = column.values.val;
  const found = new Array(rows);
  const get = reader(field, values);
  const validity = column.validity ?? null;
  for (let row = 0; row < rows; row++) {
    found[row] = validity === null || (validity[row >> 3] >> (row & 7)) & 1 ? get(row) : null;
  }
  if (field.kind === "integer" || field.kind === "timestamp") {
    for (let row = 0; row < rows; row++) {
      if (found[row] !== null && !Number.isSafeInteger(found[row])) refuse(row, `\`${field.name}\` is beyond 2^53, which a number does not hold exactly`);
    }
  }
  return found;
}

function reader({ kind, width }, values) {
  switch (kind) {
    case "boolean":
      return (row) => values[row] === 1;
    case "integer":
    case "timestamp":
      // The runtime hands 64-bit integers over as numbers.
      return (row) => Number(values[row]);
    case "text": {
      const { offsets, bytes } = values;
      const whole = latin1(bytes);
      return (row) => utf8(whole.slice(offsets[row], offsets[row + 1]));
    }
    case "bytes":
      return (row) => values.bytes.slice(values.offsets[row], values.offsets[row + 1]);
    case "vector":
      return (row) => Array.from(values.values.slice(row * width, (row + 1) * width));
    default:
      return (row) => values[row];
  }
}

const CHUNK = 8192;

/** One character for each byte. */
function latin1(bytes) {
  let text = "";
  for (let start = 0; start < bytes.length; start += CHUNK) text += String.fromCharCode.apply(null, bytes.subarray(start, start + CHUNK));
  return text;
}

const NOT_ASCII = /[^\x00-\x7f]/;

/** Text whose bytes were made characters, as the text that the bytes are. */
const utf8 = (text) => (NOT_ASCII.test(text) ? decodeURIComponent(escape(text)) : text);
/** The inverse. */
const toLatin1 = (text) => (NOT_ASCII.test(text) ? unescape(encodeURIComponent(text)) : text);

/** A column of these values; fails with a TypeError that names the output and the row. */
export function write(field, values) {
  const rows = values.length;
  let validity;
  for (let row = 0; row < rows; row++) {
    const value = values[row];
    if (value === null || value === undefined) {
      if (!field.nullable) throw new TypeError(`\`${field.name}\` of row ${row} is null; wrap it in nullable() if that is legal`);
      validity ??= new Uint8Array((rows + 7) >> 3).fill(255);
      validity[row >> 3] &= ~(1 << (row & 7));
    } else if (!fits(field, value)) {
      throw new TypeError(`\`${field.name}\` of row ${row} is ${shown(value)}; expected ${EXPECTED[field.kind](field)}`);
    }
  }
  return { values: pack(field, values), validity };
}

const EXPECTED = {
  boolean: () => "a boolean",
  integer: () => "a whole number between -2^53 and 2^53",
  float: () => "a number",
  text: () => "a string",
  bytes: () => "a Uint8Array",
  timestamp: () => "whole microseconds since 1970",
  vector: ({ width }) => `${width} numbers`,
};

function fits({ kind, width }, value) {
  switch (kind) {
    case "boolean":
      return typeof value === "boolean";
    case "integer":
    case "timestamp":
      return Number.isSafeInteger(value);
    case "float":
      return typeof value === "number";
    case "text":
      return typeof value === "string" && value.isWellFormed?.() !== false;
    case "bytes":
      return value instanceof Uint8Array || Array.isArray(value);
    default:
      return value.length === width;
  }
}

function pack({ kind, width }, values) {
  switch (kind) {
    case "boolean":
      return { tag: "booleans", val: Uint8Array.from(values, (value) => (value === true ? 1 : 0)) };
    case "integer":
      return { tag: "integers", val: values.map((value) => value ?? 0) };
    case "float":
      return { tag: "floats", val: Array.from(values, (value) => value ?? 0) };
    case "text":
      return { tag: "texts", val: packed(values, (value) => toLatin1(value ?? ""), (text, into, at) => { for (let i = 0; i < text.length; i++) into[at + i] = text.charCodeAt(i); }) };
    case "bytes":
      return { tag: "blobs", val: packed(values, (value) => value ?? [], (bytes, into, at) => into.set(bytes, at)) };
    case "timestamp":
      return { tag: "timestamps", val: values.map((value) => value ?? 0) };
    default:
      return { tag: "vectors", val: { width, values: values.flatMap((value) => (value === null ? new Array(width).fill(0) : Array.from(value, Math.fround))) } };
  }
}

function packed(values, prepare, copy) {
  const items = values.map(prepare);
  const offsets = [0];
  for (const item of items) offsets.push(offsets[offsets.length - 1] + item.length);
  const bytes = new Uint8Array(offsets[offsets.length - 1]);
  items.forEach((item, i) => copy(item, bytes, offsets[i]));
  return { offsets, bytes };
}

const shown = (value) => {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
};
