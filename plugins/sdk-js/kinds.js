// What a column holds.

const kind = (name, more = {}) => Object.freeze({ kind: name, nullable: false, ...more });

export const boolean = kind("boolean");
export const integer = kind("integer");
export const bigint = kind("bigint");
export const float = kind("float");
export const text = kind("text");
export const bytes = kind("bytes");
export const timestamp = kind("timestamp");

export function vector(width) {
  if (!Number.isInteger(width) || width < 1 || width > 65_536) throw new TypeError(`vector(${width}): the width is a whole number from 1 to 65536`);
  return kind("vector", { width });
}

export const nullable = (of) => Object.freeze({ ...of, nullable: true });
export const doc = (of, text) => Object.freeze({ ...of, doc: String(text) });

export function withDefault(of, value) {
  const text = defaultText(of, value);
  if (text === undefined) throw new TypeError(`withDefault(${of?.kind}, ${JSON.stringify(value)}): the default is no ${of?.kind}`);
  return Object.freeze({ ...of, default: text });
}

const WHOLE = /^-?\d+$/;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i;

/** The text from which the host makes the default; none for a value that is not of the kind. */
function defaultText(of, value) {
  const text = String(value);
  switch (of?.kind) {
    case "boolean":
      return text === "true" || text === "false" ? text : undefined;
    case "integer":
      return WHOLE.test(text) && Number.isSafeInteger(Number(text)) ? text : undefined;
    case "float":
      return typeof value === "number" || NUMBER.test(text) ? text : undefined;
    case "text":
    case "bytes":
      return typeof value === "string" ? value : undefined;
    case "timestamp":
      // The host would guess the unit of a bare number by its size.
      return Number.isSafeInteger(value) ? momentText(value) : MOMENT.test(text) ? text : undefined;
    case "vector":
      return Array.isArray(value) && value.length === of.width && value.every(Number.isFinite) ? JSON.stringify(value) : undefined;
    default:
      return undefined;
  }
}

/** Microseconds since 1970 as RFC 3339; none outside the years 0 to 9999. */
function momentText(micros) {
  const second = Math.floor(micros / 1e6);
  const fraction = String(micros - second * 1e6).padStart(6, "0");
  const text = Math.abs(second) < 8e12 ? new Date(second * 1e3).toISOString() : "";
  return MOMENT.test(text) ? `${text.slice(0, 19)}.${fraction}Z` : undefined;
}
