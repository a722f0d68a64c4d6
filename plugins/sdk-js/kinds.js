// What a column holds.

const kind = (name, more = {}) => Object.freeze({ kind: name, nullable: false, ...more });

export const boolean = kind("boolean");
export const integer = kind("integer");
export const float = kind("float");
export const text = kind("text");
export const bytes = kind("bytes");
export const timestamp = kind("timestamp");
export const nullable = (of) => Object.freeze({ ...of, nullable: true });
export const withDefault = (of, text) => Object.freeze({ ...of, default: String(text) });
export const doc = (of, text) => Object.freeze({ ...of, doc: text });

export function vector(width) {
  if (!Number.isInteger(width) || width < 1 || width > 65_536) throw new TypeError(`vector(${width}): the width is a whole number from 1 to 65536`);
  return kind("vector", { width });
}
