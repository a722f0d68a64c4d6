// Calls the author's function for each event of a batch, and collects its rows, where they come from, and events that are refused.

import { Reject, reasonOf } from "./define.js";
import { allValid, empty, isVector, offsetsOf, pack, placeholder, problem, read, readable, wholeOf } from "./values.js";

export class Sink {
  constructor(fields, rows) {
    this.fields = fields;
    /** Events in the batch. */
    this.rows = rows;
    /** Rows so far. */
    this.length = 0;
    /** Rows for which the columns of typed arrays have room: always enough for one more of each event that is still to come. */
    this.capacity = rows;
    this.columns = fields.map((field) => empty(field, rows));
    /** Of columns of text, where each value ends when they are put end to end, in characters; the first place stands for no row at all. */
    this.ends = fields.map(({ kind }) => (kind === "text" ? new Uint32Array(rows + 1) : null));
    /** Bitmaps of rows that are not null, by column; none until a row is. */
    this.valid = fields.map(() => null);
    /** The event of each row; none as long as every event has given exactly one. */
    this.origins = null;
    /** Reasons by event; none until there is one. */
    this.refused = null;
  }

  refuse = (row, reason) => {
    this.refused ??= new Map();
    this.spelled();
    if (!this.refused.has(row)) this.refused.set(row, reason);
  };

  isRefused(row) {
    return this.refused !== null && this.refused.has(row);
  }

  /** From now on the event of each row is kept. */
  spelled() {
    if (this.origins === null) {
      this.origins = new Uint32Array(this.capacity);
      for (let row = 0; row < this.length; row++) this.origins[row] = row;
    }
    return this.origins;
  }

  /** The bitmap of a column that has a null. */
  validOf(column) {
    return (this.valid[column] ??= allValid(this.capacity));
  }

  /** Takes what is not just a row with all its values: several rows, or one that is wrong, about which it throws. */
  take(event, returned) {
    this.spelled();
    const rows = Array.isArray(returned) ? returned : [returned];
    // All values are looked at before any is kept.
    for (const row of rows) this.check(row);
    this.reserve(this.length + rows.length + this.rows - event);
    for (const row of rows) {
      this.fields.forEach((field, i) => this.put(i, field, row[field.name]));
      this.origins[this.length++] = event;
    }
  }

  check(row) {
    if (row === null || typeof row !== "object") throw new TypeError(`${row === null ? "null" : `a ${typeof row}`} was returned; expected an object with the outputs`);
    if (typeof row.then === "function") throw new TypeError("a promise was returned; a transform cannot wait");
    for (const field of this.fields) {
      const wrong = problem(field, row[field.name]);
      if (wrong !== undefined) throw new TypeError(wrong);
    }
  }

  put(i, { kind, width }, value) {
    const { columns, length } = this;
    if (kind === "text") this.ends[i][length + 1] = this.ends[i][length] + (value === null ? 0 : value.length);
    if (value === null) {
      this.validOf(i)[length >> 3] &= ~(1 << (length & 7));
      if (Array.isArray(columns[i])) columns[i][length] = placeholder(kind);
    } else if (kind === "vector") {
      this.wider(i, (length + 1) * width).set(value, length * width);
    } else {
      columns[i][length] = kind === "bytes" ? new Uint8Array(value) : value;
    }
  }

  /** The column of vectors, with room for so many numbers. It grows as it is filled, because vectors may be very wide. */
  wider(i, numbers) {
    if (this.columns[i].length < numbers) this.columns[i] = longer(this.columns[i], Math.max(numbers, 2 * this.columns[i].length));
    return this.columns[i];
  }

  reserve(rows) {
    if (rows <= this.capacity) return;
    const capacity = Math.max(rows, 2 * this.capacity);
    this.origins = longer(this.origins, capacity);
    this.columns = this.columns.map((values, i) => (Array.isArray(values) || this.fields[i].kind === "vector" ? values : longer(values, capacity)));
    this.ends = this.ends.map((ends) => ends && longer(ends, capacity + 1));
    this.valid = this.valid.map((bits) => {
      if (bits === null) return null;
      const more = allValid(capacity);
      more.set(bits);
      return more;
    });
    this.capacity = capacity;
  }

  /** What is wrong with a row, where that is why an error was thrown; else what the author's function threw. */
  why(returned, error) {
    if (returned === undefined) return reasonOf(new TypeError("nothing was returned; return a row, or null for none"));
    if (returned === null || typeof returned !== "object" || Array.isArray(returned)) return reasonOf(error);
    try {
      this.check(returned);
    } catch (wrong) {
      return reasonOf(wrong);
    }
    return reasonOf(error);
  }

  output() {
    let columns = this.packed();
    if (columns.includes(undefined)) {
      this.sift();
      columns = this.packed();
    }
    const { length, rows } = this;
    const rejected = this.refused === null ? [] : [...this.refused].sort(([one], [other]) => one - other).map(([row, reason]) => ({ row, reason }));
    // An event that comes last and gives nothing leaves no trace in rows before it.
    const origins = this.origins ?? (length === rows ? undefined : this.spelled());
    return { batch: { rows: length, columns }, origins: origins?.slice(0, length), rejected };
  }

  packed() {
    const bytes = (this.length + 7) >> 3;
    const columns = this.fields.map((field, i) => ({ values: pack(field, this.columns[i], this.length, this.ends[i]), validity: this.valid[i]?.slice(0, bytes) }));
    return columns.map((column) => (column.values === undefined ? undefined : column));
  }

  /** Refuses the events that gave halves of surrogate pairs, and drops their rows. Rare, and costly to look for, so done when it has been seen. */
  sift() {
    const origins = this.spelled();
    this.fields.forEach((field, i) => {
      if (field.kind !== "text") return;
      for (let row = 0; row < this.length; row++) {
        const wrong = problem(field, this.columns[i][row]);
        if (wrong !== undefined) this.refuse(origins[row], `TypeError: ${wrong}`);
      }
    });
    const kept = [];
    for (let row = 0; row < this.length; row++) if (!this.isRefused(origins[row])) kept.push(row);
    const pick = (values) => (Array.isArray(values) ? kept.map((row) => values[row]) : values.constructor.from(kept, (row) => values[row]));
    this.columns = this.columns.map((values, i) => (this.fields[i].kind === "vector" ? pickVectors(values, kept, this.fields[i].width) : pick(values)));
    this.ends = this.fields.map(() => null);
    this.origins = pick(origins);
    this.valid = this.valid.map((bits) => {
      if (bits === null) return null;
      const fewer = allValid(kept.length);
      kept.forEach((row, at) => { if (((bits[row >> 3] >> (row & 7)) & 1) === 0) fewer[at >> 3] &= ~(1 << (at & 7)); });
      return fewer;
    });
    this.length = kept.length;
    this.capacity = kept.length;
  }
}

function longer(values, length) {
  const more = new values.constructor(length);
  more.set(values);
  return more;
}

function pickVectors(values, kept, width) {
  const picked = new Float32Array(kept.length * width);
  kept.forEach((row, at) => picked.set(values.subarray(row * width, Math.min((row + 1) * width, values.length)), at * width));
  return picked;
}

/**
 * A loop over events with the fields written out, because in an interpreter it is steps that cost. Names of fields are letters, digits and _, so nothing
 * else can get into the source. For each event: make it, call the function, look at all values that it returned, keep them. Whatever is not a plain row
 * goes to the sink's own methods. Variables are declared with `var`: each use of one that is not asks first whether it has been declared yet.
 *
 * `call` gives the source that sets `made` to what was returned and `taken` what is done once its rows are kept; `event` whether there is one object for
 * all events. `plain` is the loop for a batch in which nothing has been refused and each text is cut out of its column when its turn comes.
 */
function loopSource(inputs, outputs, { shared, call, taken, refused }, plain) {
  const each = (fields, text, between = "\n") => fields.map((field, i) => text(field, i)).join(between);
  const texts = plain ? inputs.flatMap(({ kind }, i) => (kind === "text" ? [i] : [])) : [];
  const valueOf = (i) => (texts.includes(i) ? `whole${i}.slice(start${i}, start${i} = offsets${i}[row + 1])` : `in${i}[row]`);
  // A property that arrays and functions have too does not tell them from a row.
  const shadowed = outputs.some(({ name }) => name === "length" || name === "name");
  const values = each(inputs, ({ name }, i) => `${name}: ${shared ? "null" : valueOf(i)}`, ", ");
  // Variables of the loop's own function are the ones that are fast to reach.
  const reload = `
            refused = sink.refused; origins = sink.origins; next = sink.length;
            ${each(outputs, ({ kind }, i) => `out${i} = sink.columns[${i}]; valid${i} = sink.valid[${i}];${kind === "text" ? ` ends${i} = sink.ends[${i}]; end${i} = ends${i}[next];` : ""}`)}`;
  return `
    ${each(inputs, (_, i) => `var in${i} = inputs[${i}].values;`)}
    ${texts.map((i) => `var whole${i} = inputs[${i}].whole, offsets${i} = inputs[${i}].offsets, start${i} = offsets${i}[from];`).join("\n")}
    var row = from, made, refused, origins, next, ${each(outputs, (_, i) => `out${i}, valid${i}, value${i}, ends${i}, end${i}`, ", ")};
    ${reload}
    ${shared ? `var event = { ${values} };` : ""}
    // One guard around the whole loop: to enter one for each event costs as much as a column does.
    while (row < to) {
      try {
        for (; row < to; row++) {
          ${plain ? "" : "if (refused !== null && refused.has(row)) continue;"}
          made = null;
          ${shared ? each(inputs, ({ name }, i) => `event.${name} = ${valueOf(i)};`) : `var event = { ${values} };`}
          ${call}
          if (made === null) {
            if (origins === null) { sink.length = next; origins = sink.spelled(); }
            ${taken}
            continue;
          }
          ${each(outputs, ({ name }, i) => `value${i} = made.${name};`)}
          if (${shadowed ? `typeof made === "object" && !isArray(made) && ` : ""}${each(outputs, check, " && ")}) {
            ${each(outputs, store)}
            if (origins !== null) origins[next] = row;
            next++;
            ${each(outputs, ({ kind }, i) => (kind === "text" ? `ends${i}[next] = end${i};` : ""), "")}
            ${taken}
            continue;
          }
          sink.length = next;
          sink.take(row, made);
          ${taken}
          ${reload}
        }
      } catch (error) {
        sink.length = next;
        sink.refuse(row, sink.why(made, error));
        ${refused}
        ${reload}
        row++;
      }
    }
    sink.length = next;`;
}

function check({ kind, nullable, width }, i) {
  const value = `value${i}`;
  const fits = {
    boolean: `(${value} === true || ${value} === false)`,
    integer: `((${value} | 0) === ${value} || isSafeInteger(${value}))`,
    timestamp: `isSafeInteger(${value})`,
    bigint: `(typeof ${value} === "bigint" && asIntN(64, ${value}) === ${value})`,
    // NaN alone is not itself.
    float: `(${value} === +${value} || ${value} !== ${value})`,
    text: `typeof ${value} === "string"`,
    bytes: `${value} instanceof Uint8Array`,
    vector: `isVector(${value}, ${width})`,
  }[kind];
  return nullable ? `(${value} === null || ${fits})` : fits;
}

function store({ kind, nullable, width }, i) {
  // The author may use an object again, so it is copied at once.
  const keep = {
    bytes: `out${i}[next] = new Uint8Array(value${i});`,
    text: `out${i}[next] = value${i}; end${i} += value${i}.length;`,
    vector: `if (out${i}.length < (next + 1) * ${width}) out${i} = sink.wider(${i}, (next + 1) * ${width}); out${i}.set(value${i}, next * ${width});`,
  }[kind] ?? `out${i}[next] = value${i};`;
  if (!nullable) return keep;
  // A typed array has its placeholder there already.
  const absent = ["boolean", "float", "bigint", "vector"].includes(kind) ? "" : `out${i}[next] = placeholder("${kind}");`;
  return `if (value${i} !== null) { ${keep} } else { valid${i} ??= sink.validOf(${i}); valid${i}[next >> 3] &= ~(1 << (next & 7)); ${absent} }`;
}

const isPair = (returned) => Array.isArray(returned) && returned.length === 2 && returned[0] !== undefined;
const NO_PAIR = "what was returned is no pair; a fold returns [state, row], and a state of null ends it";

const helpers = {
  Reject,
  asIntN: BigInt.asIntN,
  isArray: Array.isArray,
  isPair,
  isSafeInteger: Number.isSafeInteger,
  isVector,
  noPair: () => { throw new TypeError(NO_PAIR); },
  placeholder,
};

function compile(inputs, outputs, parts) {
  const loop = (plain) => `(inputs, sink, apply, settings, from, to, state, before) => {${loopSource(inputs, outputs, parts, plain)}
      return state;
    }`;
  const source = `"use strict";
    const { ${Object.keys(helpers).join(", ")} } = helpers;
    return [${loop(true)}, ${loop(false)}];`;
  const [plain, any] = new Function("helpers", source)(helpers);
  return ({ isPlain }) => (isPlain ? plain : any);
}

/** Gives the loop over the rows of a batch that was opened: `(inputs, sink, apply, settings, from, to)`. */
export const rowLoop = (inputs, outputs) => compile(inputs, outputs, { shared: true, call: "made = apply(event, settings);", taken: "", refused: "" });

/** The same over the rows of one entity: it also takes the state before them, and returns the one after them. */
export const foldLoop = (inputs, outputs) =>
  compile(inputs, outputs, {
    shared: false,
    call: "var pair = apply(state, event, settings); if (!isPair(pair)) noPair(); made = pair[1]; var changed = pair[0];",
    taken: "state = changed;",
    refused: "state = before(row, state);",
  });

/**
 * The columns of a batch that a function takes, ready for a loop. `isPlain` says that all texts can be cut out of their columns, none is null and nothing has been refused: texts
 * are then cut out when their turn comes.
 */
export function open(fields, taken, batch, sink) {
  const columns = taken.map((field) => batch.columns[fields.indexOf(field)]);
  const wholes = taken.map(({ kind }, i) => (kind === "text" ? wholeOf(columns[i].values.val) : undefined));
  const decoded = (i) => {
    const values = wholes[i] === undefined ? readable(columns[i], taken[i], batch.rows, sink.refuse) : read(columns[i], taken[i], batch.rows, sink.refuse, wholes[i]);
    return { values, whole: "", offsets: [] };
  };
  const inputs = taken.map(({ kind }, i) => (kind === "text" ? { values: null, whole: wholes[i].text, offsets: offsetsOf(columns[i].values.val.offsets) } : decoded(i)));
  const isPlain = sink.refused === null && wholes.every((whole, i) => whole === undefined || (whole.isText && (columns[i].validity ?? null) === null));
  return { isPlain, inputs: isPlain ? inputs : inputs.map((input, i) => (wholes[i] === undefined ? input : decoded(i))) };
}
