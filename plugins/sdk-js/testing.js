// Runs the whole batch path of a transform without a host: events in, rows of features out.

import { setWriter } from "./log.js";
import { decodeText, encode, problem, write } from "./values.js";

/** What became of a batch. */
export function run(transform, events, { settings = "", states = new Map() } = {}) {
  const logged = [];
  setWriter((level, message) => logged.push([level, message]));
  const spec = transform.describe(typeof settings === "string" ? settings : JSON.stringify(settings));
  const outcome = transform.isFold ? fold(transform, spec, events, states) : unfolded(spec, transform.apply(batch(spec, events)), (row) => row);
  return { ...outcome, logged };
}

function unfolded(spec, { batch, origins, rejected }, event) {
  const columns = batch.columns.map((column, i) => values(column, spec.outputs[i], batch.rows));
  const rows = Array.from({ length: batch.rows }, (_, row) => Object.fromEntries(spec.outputs.map(({ name }, i) => [name, columns[i][row]])));
  return {
    rows,
    origins: (origins ?? rows.map((_, row) => row)).map(event),
    rejected: new Map(rejected.map(({ row, reason }) => [event(row), reason])),
  };
}

function fold(transform, spec, events, states) {
  const entities = new Map();
  events.forEach((event, row) => {
    const key = spec.entity.length === 1 ? event[spec.entity[0]] : JSON.stringify(spec.entity.map((name) => event[name]));
    if (!entities.has(key)) entities.set(key, []);
    entities.get(key).push(row);
  });
  const order = [...entities.values()].flat();
  const groups = [0];
  for (const rows of entities.values()) groups.push(groups[groups.length - 1] + rows.length);
  const field = { name: "state", kind: "bytes", nullable: true };
  const kept = [...entities.keys()].map((key) => (states.get(key) === undefined ? null : encode(JSON.stringify(states.get(key)))));
  const folded = transform.apply(batch(spec, order.map((row) => events[row])), groups, write(field, kept));
  const outcome = unfolded(spec, folded.output, (row) => order[row]);
  const after = values(folded.states, field, kept.length);
  const next = new Map(states);
  [...entities.keys()].forEach((key, group) => (after[group] === null ? next.delete(key) : next.set(key, JSON.parse(decodeText(after[group])))));
  return { ...outcome, states: next };
}

/** Events as the host hands them over. What it would not hand over is an error. */
function batch(spec, events) {
  const columns = spec.inputs.map((field) => {
    const found = events.map((event) => event[field.name] ?? defaultOf(field));
    const row = found.findIndex((value) => problem(field, value) !== undefined);
    if (row >= 0) throw new TypeError(`event ${row} never reaches the transform: ${problem(field, found[row])}`);
    return write(field, found);
  });
  return { rows: events.length, columns };
}

function defaultOf({ kind, default: text }) {
  if (text === undefined) return null;
  if (kind === "text") return text;
  return kind === "boolean" ? text === "true" : kind === "bytes" ? encode(text) : Number(text);
}

function values({ values: { val }, validity }, { kind, width }, rows) {
  const cut = (row) => val.bytes.slice(val.offsets[row], val.offsets[row + 1]);
  const get = {
    boolean: (row) => val[row] === 1,
    text: (row) => decodeText(cut(row)),
    bytes: cut,
    vector: (row) => val.values.slice(row * width, (row + 1) * width),
  }[kind] ?? ((row) => val[row]);
  return Array.from({ length: rows }, (_, row) => (validity && ((validity[row >> 3] >> (row & 7)) & 1) === 0 ? null : get(row)));
}
