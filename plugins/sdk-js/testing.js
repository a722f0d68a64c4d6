// Runs the whole batch path of a transform without a host: events in, rows of features out, in the very columns that a host would hand over.

import { setWriter } from "./log.js";
import { pack, placeholder, problem, stateOf, stateText } from "./values.js";

/** Bytes in the values of one row, at most, and rows of one event: what a host takes. */
const ROW_BYTES_MAX = 1 << 20;
const ROWS_PER_EVENT_MAX = 64;
const STATE = { name: "state", kind: "text", nullable: true };

/** What became of a batch. */
export function run(transform, events, { settings = "", states = new Map() } = {}) {
  if (typeof transform?.describe !== "function") throw new TypeError("run() takes what rows(), columns() or folds() made");
  const logged = [];
  const before = setWriter((level, message) => logged.push([level, message]));
  try {
    const spec = transform.describe(typeof settings === "string" ? settings : JSON.stringify(settings));
    const ran = transform.isFold ? fold(transform, spec, events, states) : { ...outcome(spec, transform, transform.apply(batch(spec, events)), events.length), states: new Map() };
    return { ...ran, logged };
  } catch (error) {
    // What crosses the boundary is a text; people want to see where it came from.
    throw typeof error === "string" ? new Error(error) : error;
  } finally {
    setWriter(before);
  }
}

/** Takes over states that another version wrote, by entity, as a host does before the first event. */
export function migrate(transform, from, states) {
  if (transform?.migration === undefined) throw new TypeError("migrate() takes what folds() made of a definition with `migrate`");
  const kept = [...states.values()].map(stateText);
  try {
    const after = values(transform.migration.migrate(from, lifted({ ...STATE, nullable: false }, kept)), STATE, kept.length);
    return new Map([...states.keys()].map((key, at) => [key, stateOf(after[at])]));
  } catch (error) {
    throw typeof error === "string" ? new Error(error) : error;
  }
}

function outcome(spec, transform, { batch, origins, rejected }, events, event = (row) => row) {
  const kinds = transform.definition.outputs;
  const columns = batch.columns.map((column, i) => values(column, { ...spec.outputs[i], kind: kinds[spec.outputs[i].name].kind }, batch.rows));
  const rows = Array.from({ length: batch.rows }, (_, row) => Object.fromEntries(spec.outputs.map(({ name }, i) => [name, columns[i][row]])));
  if (rows.length > events * ROWS_PER_EVENT_MAX) throw new RangeError(`${rows.length} rows of ${events} events; a host takes ${ROWS_PER_EVENT_MAX} an event`);
  for (const [at, row] of rows.entries()) {
    const bytes = Object.values(row).reduce((sum, value) => sum + bytesOf(value), 0);
    if (bytes > ROW_BYTES_MAX) throw new RangeError(`row ${at} has ${bytes} bytes; a host takes ${ROW_BYTES_MAX}`);
  }
  return {
    rows,
    origins: Array.from(origins ?? rows.keys(), event),
    rejected: new Map(rejected.map(({ row, reason }) => [event(row), reason])),
  };
}

function fold(transform, spec, events, states) {
  const entities = new Map();
  events.forEach((event, row) => {
    const parts = spec.entity.map((name) => event[name] ?? defaultOf(spec.inputs.find((field) => field.name === name)));
    const key = parts.length === 1 ? parts[0] : JSON.stringify(parts);
    if (!entities.has(key)) entities.set(key, []);
    entities.get(key).push(row);
  });
  // A host hands over the events of one entity together, and in order.
  const order = [...entities.values()].flat();
  const groups = [0];
  for (const rows of entities.values()) groups.push(groups[groups.length - 1] + rows.length);
  const kept = [...entities.keys()].map((key) => (states.get(key) === undefined || states.get(key) === null ? null : stateText(states.get(key))));
  const folded = transform.apply(batch(spec, order.map((row) => events[row]), (row) => order[row]), groups, lifted(STATE, kept));
  const ran = outcome(spec, transform, folded.output, events.length, (row) => order[row]);
  const after = values(folded.states, STATE, kept.length);
  const next = new Map(states);
  [...entities.keys()].forEach((key, group) => (after[group] === null ? next.delete(key) : next.set(key, stateOf(after[group]))));
  return { ...ran, states: next };
}

/** Events as the host hands them over. What it would not hand over is an error. */
function batch(spec, events, event = (row) => row) {
  const columns = spec.inputs.map((field) => {
    const found = events.map((event) => event[field.name] ?? defaultOf(field));
    found.forEach((value, row) => {
      const wrong = value === null && !field.nullable ? `\`${field.name}\` is missing or null; wrap it in nullable(), or give it withDefault()` : problem(field, value);
      if (wrong !== undefined) throw new TypeError(`event ${event(row)} never reaches the transform: ${wrong}`);
    });
    return lifted(field, found);
  });
  return { rows: events.length, columns };
}

/** A column in the shapes in which a component gets it. */
function lifted(field, values) {
  const rows = values.length;
  let validity = null;
  const whole = values.map((value, row) => {
    if (value !== null) return field.kind === "boolean" ? Number(value) : value;
    validity ??= new Uint8Array((rows + 7) >> 3).fill(255);
    validity[row >> 3] &= ~(1 << (row & 7));
    return placeholder(field.kind);
  });
  const { tag, val } = pack(field, whole, rows);
  const plain = (list) => (ArrayBuffer.isView(list) && !(list instanceof Uint8Array) ? Array.from(list) : list);
  if (tag === "booleans") return { values: { tag, val: Uint8Array.from(val) }, validity };
  const lists = Array.isArray(val) || ArrayBuffer.isView(val) ? plain(val) : Object.fromEntries(Object.entries(val).map(([name, list]) => [name, plain(list)]));
  return { values: { tag, val: lists }, validity };
}

/** The value that stands in where an event lacks the field; null where nothing does. */
function defaultOf({ kind, default: text }) {
  switch (text === undefined ? "none" : kind) {
    case "none":
      return null;
    case "boolean":
      return text === "true";
    case "integer":
    case "float":
      return Number(text);
    case "timestamp": {
      const [, fraction = ""] = /\.(\d+)/.exec(text) ?? [];
      return Date.parse(text.replace(/\.\d+/, "")) * 1e3 + Number(fraction.padEnd(6, "0").slice(0, 6));
    }
    case "bytes":
      return new TextEncoder().encode(text);
    case "vector":
      return JSON.parse(text);
    default:
      return text;
  }
}

function values({ values: { val }, validity }, { kind, width }, rows) {
  const cut = (row) => val.bytes.slice(val.offsets[row], val.offsets[row + 1]);
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const get = {
    boolean: (row) => val[row] === 1,
    // An integer has no negative zero.
    integer: (row) => val[row] + 0,
    timestamp: (row) => val[row] + 0,
    text: (row) => decoder.decode(cut(row)),
    bytes: cut,
    vector: (row) => Array.from(val.values.slice(row * width, (row + 1) * width)),
  };
  const of = get[kind] ?? ((row) => val[row]);
  return Array.from({ length: rows }, (_, row) => (validity && ((validity[row >> 3] >> (row & 7)) & 1) === 0 ? null : of(row)));
}

function bytesOf(value) {
  if (typeof value === "string") return new TextEncoder().encode(value).length;
  if (value instanceof Uint8Array) return value.length;
  return Array.isArray(value) ? value.length * 4 : 8;
}
