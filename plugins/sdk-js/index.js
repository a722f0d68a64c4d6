// Rows and columns for authors, the contract's batches for the host.

import { Reject, attempt, define, reasonOf } from "./define.js";
import { write as writeLine } from "./log.js";
import { Sink } from "./sink.js";
import { decodeText, encode, problem, read, write } from "./values.js";

export { Reject } from "./define.js";
export { boolean, bytes, doc, float, integer, nullable, text, timestamp, vector, withDefault } from "./kinds.js";

export const log = {
  debug: (message) => writeLine("debug", String(message)),
  info: (message) => writeLine("info", String(message)),
  warn: (message) => writeLine("warn", String(message)),
  error: (message) => writeLine("error", String(message)),
};

export function rows(definition) {
  const made = define(definition);
  const run = rowLoop(made.inputs, made.outputs);
  return {
    definition,
    describe: made.describe,
    apply: (input) =>
      attempt(() => {
        const sink = new Sink(made.outputs);
        const columns = made.inputs.map((field, i) => read(input.columns[i], field, input.rows, sink.refuse));
        run(columns, input.rows, sink, definition.apply, made.settings);
        return sink.output(input.rows);
      }),
  };
}

/**
 * The loop over the rows of a batch, with the fields written out, and one object for all events: in an interpreter, making objects and filling them by
 * names is what costs. Names of fields are letters, digits and _, so nothing else can get into the source.
 */
function rowLoop(inputs, outputs) {
  const each = (fields, text) => fields.map(({ name }, i) => text(name, i)).join(" ");
  const source = `
    ${each(inputs, (_, i) => `const in${i} = columns[${i}];`)}
    ${each(outputs, (_, i) => `const out${i} = sink.columns[${i}];`)}
    const event = { ${each(inputs, (name) => `${name}: null,`)} };
    let refused = sink.refused, origins = sink.origins, next = 0;
    for (let row = 0; row < rows; row++) {
      if (refused !== null && refused.has(row)) continue;
      ${each(inputs, (name, i) => `event.${name} = in${i}[row];`)}
      try {
        const made = apply(event, settings);
        if (made === null || made === undefined || isArray(made)) {
          sink.take(row, made);
          origins = sink.origins;
          next = origins.length;
        } else {
          ${each(outputs, (name, i) => `out${i}[next] = made.${name};`)}
          if (origins !== null) origins[next] = row;
          next++;
        }
      } catch (error) {
        sink.refuse(row, reasonOf(error));
        refused = sink.refused;
        origins = sink.origins;
      }
    }`;
  const loop = new Function("columns", "rows", "sink", "apply", "settings", "isArray", "reasonOf", source);
  return (columns, rows, sink, apply, settings) => loop(columns, rows, sink, apply, settings, Array.isArray, reasonOf);
}

export function columns(definition) {
  const made = define(definition);
  return {
    definition,
    describe: made.describe,
    apply: (input) =>
      attempt(() => {
        const events = {};
        made.inputs.forEach((field, i) => { events[field.name] = read(input.columns[i], field, input.rows, cannot); });
        const returned = definition.apply(events, made.settings, input.rows);
        const found = made.outputs.map((field) => checked(field, returned[field.name], input.rows));
        return { batch: { rows: input.rows, columns: found }, origins: undefined, rejected: [] };
      }),
  };
}

/** Over whole columns there is nobody to refuse a row; the host then halves the batch until it stands alone. */
const cannot = (row, reason) => {
  throw new RangeError(`row ${row}: ${reason}`);
};

function checked(field, column, rows) {
  if (column?.length !== rows) throw new TypeError(`\`${field.name}\` has ${column?.length} values for ${rows} rows`);
  const values = Array.isArray(column) ? column : Array.from(column);
  const written = write(field, values);
  if (written !== undefined) return written;
  const row = values.findIndex((value) => problem(field, value) !== undefined);
  throw new TypeError(`row ${row}: ${problem(field, values[row])}`);
}

export function folds(definition) {
  const made = define(definition);
  const field = { name: "state", kind: "bytes", nullable: true };
  return {
    definition,
    isFold: true,
    describe: made.describe,
    apply: (input, groups, before) =>
      attempt(() => {
        const sink = new Sink(made.outputs);
        const columns = made.inputs.map((field, i) => read(input.columns[i], field, input.rows, sink.refuse));
        const kept = read(before, field, groups.length - 1, cannot);
        const after = kept.map((bytes, group) => {
          let state = bytes === null ? null : JSON.parse(decodeText(bytes));
          for (let row = groups[group]; row < groups[group + 1]; row++) {
            if (sink.isRefused(row)) continue;
            try {
              const event = {};
              for (let i = 0; i < columns.length; i++) event[made.inputs[i].name] = columns[i][row];
              const [next, returned] = definition.apply(state, event, made.settings);
              for (const each of returned === null || returned === undefined ? [] : [returned].flat()) {
                for (const output of made.outputs) {
                  const wrong = problem(output, each[output.name]);
                  if (wrong !== undefined) throw new TypeError(wrong);
                }
              }
              sink.take(row, returned);
              state = next;
            } catch (error) {
              sink.refuse(row, reasonOf(error));
            }
          }
          return state === null || state === undefined ? null : encode(JSON.stringify(state));
        });
        return { output: sink.output(input.rows), states: write(field, after) };
      }),
  };
}
