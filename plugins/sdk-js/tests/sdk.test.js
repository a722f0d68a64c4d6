import assert from "node:assert/strict";
import test from "node:test";

import { Reject, bigint, boolean, bytes, columns, doc, float, folds, integer, log, nullable, rows, text, timestamp, vector, withDefault } from "../index.js";
import * as sdk from "../index.js";
import { migrate, run } from "../testing.js";
import { boundary } from "../values.js";

const order = rows({
  name: "order",
  entity: "customer",
  stream: "orders",
  settings: { factor: 1 },
  inputs: { customer: text, price: float, quantity: withDefault(integer, 1), coupon: nullable(text) },
  outputs: { total: doc(float, "Price of all pieces."), label: nullable(text) },
  apply({ customer, price, quantity, coupon }, { factor }) {
    if (quantity < 1) throw new Reject(`quantity is ${quantity}`);
    if (quantity > 100) return null;
    if (customer === "loud") log.warn("loud");
    const row = { total: price * quantity * factor, label: coupon && `<${coupon}>` };
    return quantity === 2 ? [row, row] : row;
  },
});

test("rows, filtered, repeated and refused, each know their event", () => {
  const outcome = run(order, [
    { customer: "a", price: 2 },
    { customer: "b", price: 3, quantity: 2, coupon: "ü🌾" },
    { customer: "c", price: 1, quantity: 0 },
    { customer: "d", price: 1, quantity: 101 },
    { customer: "loud", price: 5, quantity: 3 },
  ]);
  assert.deepEqual(outcome.rows, [
    { total: 2, label: null },
    { total: 6, label: "<ü🌾>" },
    { total: 6, label: "<ü🌾>" },
    { total: 15, label: null },
  ]);
  assert.deepEqual(outcome.origins, [0, 1, 1, 4]);
  assert.deepEqual([...outcome.rejected], [[2, "quantity is 0"]]);
  assert.deepEqual(outcome.logged, [["warn", "loud"]]);
});

test("settings are taken, and unknown or wrong ones refused", () => {
  assert.equal(run(order, [{ customer: "a", price: 2 }], { settings: { factor: 10 } }).rows[0].total, 20);
  assert.throws(() => order.describe('{"facto": 1}'), /there is no setting `facto`; known are: factor/);
  assert.throws(() => order.describe('{"factor": "1"}'), /expected a number/);
});

test("an event that the host would not hand over is an error", () => {
  assert.throws(() => run(order, [{ customer: "a" }]), /event 0 never reaches the transform: `price` is missing or null/);
  assert.throws(() => run(order, [{ customer: "a", price: "2" }]), /expected a number/);
});

const kinds = { truth: nullable(boolean), whole: nullable(integer), blob: nullable(bytes), at: nullable(timestamp), point: nullable(vector(2)) };
const echo = (change) => rows({ name: "echo", entity: "id", inputs: { id: text, ...kinds }, outputs: kinds, apply: (event) => ({ ...event, ...change }) });

test("every kind goes in and comes out, null too", () => {
  const full = { truth: true, whole: -7, blob: Uint8Array.of(0, 255), at: 1_700_000_000_000_000, point: [0.5, -1] };
  const empty = { truth: null, whole: null, blob: null, at: null, point: null };
  assert.deepEqual(run(echo({}), [{ id: "a", ...full }, { id: "b" }]).rows, [full, empty]);
  assert.deepEqual(run(echo({}), []).rows, []);
});

test("a value that is not of its kind refuses its event alone", () => {
  for (const change of [{ truth: 1 }, { whole: 0.5 }, { whole: 2 ** 53 }, { blob: "x" }, { at: "now" }, { point: [1] }, { whole: undefined }]) {
    const once = rows({ ...echo({}).definition, apply: (event) => (event.id === "bad" ? { ...event, ...change } : { ...event }) });
    const outcome = run(once, [{ id: "a", whole: 1 }, { id: "bad" }, { id: "c", whole: 3 }]);
    assert.deepEqual(outcome.origins, [0, 2], JSON.stringify(change));
    assert.match(outcome.rejected.get(1), /TypeError: `(truth|whole|blob|at|point)`/);
  }
});

test("half of a surrogate pair is no text", () => {
  const half = rows({ name: "half", entity: "id", inputs: { id: text }, outputs: { out: text }, apply: ({ id }) => ({ out: id === "b" ? "\ud800" : id }) });
  const outcome = run(half, [{ id: "a" }, { id: "b" }, { id: "ç" }]);
  assert.deepEqual([...outcome.rejected], [[1, 'TypeError: `out` is "\\ud800"; expected a string without halves of surrogate pairs']]);
  assert.deepEqual([outcome.rows, outcome.origins], [[{ out: "a" }, { out: "ç" }], [0, 2]]);
});

test("rows with halves of surrogate pairs leave without a trace in the columns of their neighbours", () => {
  const outputs = { at: vector(2), big: nullable(bigint), out: text, real: nullable(float), truth: boolean };
  const half = rows({
    name: "half",
    entity: "id",
    inputs: { id: integer },
    outputs,
    apply: ({ id }) => ({ out: id % 3 === 1 ? "\udc00" : `${id}ü`, real: id % 2 ? null : id, truth: id > 4, at: [id, -id], big: id === 5 ? null : BigInt(id) << 40n }),
  });
  const outcome = run(half, Array.from({ length: 12 }, (_, id) => ({ id })));
  const kept = [0, 2, 3, 5, 6, 8, 9, 11];
  assert.deepEqual(outcome.origins, kept);
  assert.deepEqual(outcome.rows, kept.map((id) => ({ at: [id, -id || 0], big: id === 5 ? null : BigInt(id) << 40n, out: `${id}ü`, real: id % 2 ? null : id, truth: id > 4 })).map((row) => (row.at[1] === 0 ? { ...row, at: [0, -0] } : row)));
});

test("one event may give very many rows, before events that give one", () => {
  const spread = rows({ name: "s", entity: "id", inputs: { id: integer }, outputs: { real: nullable(float), at: vector(2) }, apply: ({ id }) => (id === 1 ? Array.from({ length: 60 }, (_, at) => ({ real: at % 2 ? at : null, at: [at, 0] })) : { real: id, at: [id, 1] }) });
  const outcome = run(spread, [{ id: 0 }, { id: 1 }, { id: 2 }, { id: 3 }]);
  assert.deepEqual(outcome.rows.length, 63);
  assert.deepEqual(outcome.rows.slice(-3), [{ real: 59, at: [59, 0] }, { real: 2, at: [2, 1] }, { real: 3, at: [3, 1] }]);
  assert.deepEqual(outcome.rows[1], { real: null, at: [0, 0] });
  assert.deepEqual(outcome.origins.slice(-3), [1, 2, 3]);
});

test("an array, a row or a buffer may be used again by the author", () => {
  const [row, numbers, buffer] = [{}, [0, 0], new Uint8Array(1)];
  const again = rows({
    name: "again",
    entity: "id",
    inputs: { id: integer },
    outputs: { id: integer, at: vector(2), blob: bytes },
    apply: ({ id }) => {
      numbers[0] = buffer[0] = id;
      return Object.assign(row, { id, at: numbers, blob: buffer });
    },
  });
  assert.deepEqual(run(again, [{ id: 1 }, { id: 2 }]).rows, [{ id: 1, at: [1, 0], blob: Uint8Array.of(1) }, { id: 2, at: [2, 0], blob: Uint8Array.of(2) }]);
});

test("64-bit integers go out exactly, and come in only where nobody takes them", () => {
  const wide = rows({ name: "wide", entity: "id", inputs: { id: integer, whole: integer }, outputs: { out: bigint }, apply: ({ whole }) => ({ out: BigInt(whole) - 2n ** 62n }) });
  assert.deepEqual(run(wide, [{ id: 1, whole: 1 }]).rows, [{ out: 1n - 2n ** 62n }]);
  const beyond = (out) => rows({ ...wide.definition, apply: () => ({ out }) });
  assert.match(run(beyond(2n ** 63n), [{ id: 1, whole: 1 }]).rejected.get(0), /`out` is 9223372036854775808n; expected a bigint of 64 bits/);
  assert.match(run(beyond(1), [{ id: 1, whole: 1 }]).rejected.get(0), /expected a bigint/);
  // As the runtime hands it over: the nearest number.
  const column = (val) => ({ values: { tag: "integers", val }, validity: null });
  const { rejected, batch } = wide.apply({ rows: 2, columns: [column([2 ** 60, 5]), column([1, 2 ** 53])] });
  assert.deepEqual([batch.rows, rejected], [1, [{ row: 1, reason: "`whole` is beyond 2^53, which a number does not hold exactly" }]]);
});

test("inputs that the function's parameter does not name are left out, whatever the function looks like", () => {
  const inputs = { id: text, price: float };
  const made = (apply) => run(rows({ name: "t", entity: "id", inputs, outputs: { out: float }, apply }), [{ id: "a", price: 2 }]).rows[0].out;
  assert.equal(made(({ price }) => ({ out: price })), 2);
  assert.equal(made((event) => ({ out: event.price })), 2);
  assert.equal(made(function ({ id }) { return { out: arguments[0].price + id.length }; }), 3);
  assert.equal(made(({ ...rest }) => ({ out: rest.price })), 2);
  assert.equal(made(({ price: cost, id = "" }) => ({ out: cost + id.length })), 3);
  assert.equal(made(({ ["price"]: cost }) => ({ out: cost })), 2);
  assert.equal(made(({ price, price: cost, }) => ({ out: price + cost })), 4);
  assert.equal(made((({ id }, event) => ({ out: event ?? 1 }))), 1);
  assert.equal(made(((event) => ({ out: event.price })).bind(null)), 2);
  assert.equal(made({ apply({ id, price }, settings) { return { out: price + id.length }; } }.apply), 3);
  assert.equal(made(function named(event, { price } = event) { return { out: price }; }), 2);
});

test("what is no row is refused, and says so", () => {
  const inputs = { id: text };
  const reason = (returned, outputs = { out: float }) => run(rows({ name: "t", entity: "id", inputs, outputs, apply: () => returned }), [{ id: "a" }]).rejected.get(0);
  assert.match(reason(5), /a number was returned; expected an object/);
  assert.match(reason("text", { length: integer }), /a string was returned/);
  assert.match(reason([null]), /null was returned/);
  assert.match(reason(Promise.resolve()), /cannot wait/);
  assert.match(reason({ out: 1n }), /`out` is 1n; expected a number/);
  assert.match(reason({ out: "1" }), /`out` is "1"; expected a number/);
  assert.match(reason({ out: 1n }, { out: integer }), /`out` is 1n; expected a whole number/);
  assert.match(reason([{ out: 1 }, {}]), /`out` is missing/);
  assert.deepEqual(run(rows({ name: "t", entity: "id", inputs, outputs: { length: integer }, apply: () => [{ length: 3 }] }), [{ id: "a" }]).rows, [{ length: 3 }]);
});

test("reasons and lines are text, whatever was thrown", () => {
  const made = rows({ name: "t", entity: "id", inputs: { id: text }, outputs: { out: float }, apply: ({ id }) => { log.info(`half \ud800 ${id}`); throw id === "a" ? Object.create(null) : new Reject("\udfff"); } });
  const outcome = run(made, [{ id: "a" }, { id: "b" }]);
  assert.deepEqual([...outcome.rejected.values()], ["something was thrown that has no text", "\ufffd"]);
  assert.deepEqual(outcome.logged[0], ["info", "half \ufffd a"]);
});

test("settings of one description do not stick, and cannot be changed", () => {
  const taken = [];
  const made = rows({ ...order.definition, apply: (_, settings) => { taken.push(settings.factor); settings.factor = 9; return null; } });
  run(made, [{ customer: "a", price: 1 }], { settings: { factor: 3 } });
  const { rejected } = run(made, [{ customer: "a", price: 1 }]);
  assert.deepEqual(taken, [3, 1]);
  assert.match(rejected.get(0), /TypeError/);
  for (const settings of ["5", "[]", "null", "{"]) assert.throws(() => run(order, [], { settings }), /the settings are/);
  const none = rows({ name: "t", entity: "id", inputs: { id: text }, outputs: { out: float }, apply: () => null });
  assert.throws(() => run(none, [], { settings: { factor: 1 } }), /there is no setting `factor`; this transform takes none/);
});

test("defaults are what the host makes of them", () => {
  const inputs = { id: text, at: withDefault(timestamp, 1_700_000_000_000_001), then: withDefault(timestamp, "1969-12-31T23:59:59.5-01:00"), blob: withDefault(bytes, "é"), point: withDefault(vector(2), [1, 2]), flag: withDefault(boolean, true) };
  const { id, ...outputs } = Object.fromEntries(Object.entries(inputs).map(([name, { default: _, ...kind }]) => [name, kind]));
  const made = rows({ name: "t", entity: "id", inputs, outputs, apply: (event) => event });
  assert.equal(made.describe("").inputs[1].default, "2023-11-14T22:13:20.000001Z");
  assert.deepEqual(run(made, [{ id: "a" }]).rows, [{ at: 1_700_000_000_000_001, then: 3_599_500_000, blob: Uint8Array.of(0xc3, 0xa9), point: [1, 2], flag: true }]);
  for (const [kind, value] of [[integer, "x"], [integer, 1.5], [float, "1,5"], [text, 1], [boolean, "yes"], [timestamp, "2024-01-01"], [vector(2), [1]]]) assert.throws(() => withDefault(kind, value), /the default is no/);
});

test("what the host does not take, a test does not take", () => {
  const many = (count) => rows({ name: "t", entity: "id", inputs: { id: text }, outputs: { out: text }, apply: () => Array(count).fill({ out: "x" }) });
  assert.equal(run(many(64), [{ id: "a" }]).rows.length, 64);
  assert.throws(() => run(many(65), [{ id: "a" }]), /a host takes 64 an event/);
  const large = rows({ name: "t", entity: "id", inputs: { id: text }, outputs: { out: text }, apply: () => ({ out: "é".repeat(600_000) }) });
  assert.throws(() => run(large, [{ id: "a" }]), /1200000 bytes; a host takes 1048576/);
});

test("text of every length and width is read and written as it is", () => {
  const echo = rows({ name: "t", entity: "id", inputs: { id: text, other: nullable(text) }, outputs: { id: text, other: nullable(text) }, apply: (event) => event });
  const alphabets = ["abc", "äöü", "水車", "🌾🍞", "\0\u007f\u0080\u07ff\u0800\uffff"];
  for (const alphabet of alphabets) {
    const letters = [...alphabet];
    const events = Array.from({ length: 300 }, (_, at) => ({ id: Array.from({ length: at % 41 }, (_, i) => (i === 7 ? letters[at % letters.length] : "x")).join(""), other: at % 5 ? `${at}${letters[0]}` : null }));
    assert.deepEqual(run(echo, events).rows, events);
  }
});

test("texts are cut and put together where they end, whatever becomes of their neighbours", () => {
  const echo = rows({
    name: "t",
    entity: "id",
    inputs: { id: text, other: text, many: integer },
    outputs: { id: text, other: nullable(text) },
    apply({ id, other, many }) {
      if (many === 3) throw new Reject("three");
      if (many === 4) return { id, other: 4 };
      const row = { id, other: many % 2 ? other : null };
      return many === 1 ? row : Array(many).fill(row);
    },
  });
  const plain = Array.from({ length: 120 }, (_, at) => ({ id: "x".repeat(at % 9), other: `${at}`, many: (at * 7) % 6 }));
  const wide = plain.map((event, at) => (at === 70 ? { ...event, id: "ü🌾", many: 2 } : event));
  for (const events of [plain, wide]) {
    const { rows: found, origins, rejected } = run(echo, events);
    const expected = events.flatMap(({ id, other, many }, at) => (many === 3 || many === 4 ? [] : Array(many).fill([{ id, other: many % 2 ? other : null }, at])));
    assert.deepEqual(found, expected.map(([row]) => row));
    assert.deepEqual(origins, expected.map(([, at]) => at));
    assert.deepEqual([...rejected.keys()], events.flatMap(({ many }, at) => (many === 3 || many === 4 ? [at] : [])));
  }
});

test("a refused event of one entity moves no text of the next", () => {
  const fold = folds({
    name: "t",
    entity: "id",
    inputs: { id: text, word: text },
    outputs: { said: text },
    apply(state, { id, word }) {
      if (word === "no") throw new Reject("no");
      const said = `${state ?? id}+${word}`;
      return [said, { said }];
    },
  });
  const events = [["a", "one"], ["bb", "two"], ["a", "no"], ["a", "three"], ["ccc", "four"], ["bb", "five"]].map(([id, word]) => ({ id, word }));
  const { rows: found, rejected } = run(fold, events);
  assert.deepEqual(found.map(({ said }) => said), ["a+one", "a+one+three", "bb+two", "bb+two+five", "ccc+four"]);
  assert.deepEqual([...rejected], [[2, "no"]]);
});

test("whole columns must be as long as the batch", () => {
  const made = (total) => columns({ name: "c", entity: "id", inputs: { id: text, price: float }, outputs: { total: float }, apply: total });
  assert.deepEqual(run(made(({ price }) => ({ total: price.map((price) => price * 2) })), [{ id: "a", price: 1 }, { id: "b", price: 2 }]).rows, [{ total: 2 }, { total: 4 }]);
  assert.throws(() => run(made(() => ({ total: [1] })), [{ id: "a", price: 1 }, { id: "b", price: 2 }]), /`total` has 1 values for 2 rows/);
  assert.throws(() => run(made(() => ({ total: [1, "x"] })), [{ id: "a", price: 1 }, { id: "b", price: 2 }]), /^Error: TypeError: `total` is "x"/);
  assert.throws(() => run(made(() => ({ total: [1, , ] })), [{ id: "a", price: 1 }, { id: "b", price: 2 }]), /^Error: TypeError: `total` is missing/);
  assert.throws(() => run(made(() => undefined), [{ id: "a", price: 1 }]), /nothing was returned/);
  assert.throws(() => run(made(() => ({ total: 1 })), [{ id: "a", price: 1 }]), /expected an array/);
});

test("whole columns are arrays or typed arrays, of every kind, with nulls where they are legal", () => {
  const made = columns({
    name: "c",
    entity: "id",
    inputs: { id: text, ...kinds },
    outputs: { ...kinds, real: float, small: integer, big: bigint, words: nullable(text) },
    apply: ({ id, ...rest }) => ({ ...rest, real: new Float64Array([0.5, NaN]), small: Int8Array.of(-1, 1), big: BigInt64Array.of(-(2n ** 63n), 1n), words: [null, `${id[1]}ü`] }),
  });
  const full = { truth: true, whole: -7, blob: Uint8Array.of(0, 255), at: 1_700_000_000_000_000, point: [0.5, -1] };
  const empty = { truth: null, whole: null, blob: null, at: null, point: null };
  assert.deepEqual(run(made, [{ id: "a", ...full }, { id: "b" }]).rows, [
    { ...full, real: 0.5, small: -1, big: -(2n ** 63n), words: null },
    { ...empty, real: NaN, small: 1, big: 1n, words: "bü" },
  ]);
  const half = columns({ name: "c", entity: "id", inputs: { id: text }, outputs: { out: text }, apply: () => ({ out: ["a", "\ud800"] }) });
  assert.throws(() => run(half, [{ id: "a" }, { id: "b" }]), /^Error: TypeError: `out` is .*halves/);
});

test("a state goes from event to event and from batch to batch", () => {
  const tally = folds({
    name: "tally",
    entity: "id",
    inputs: { id: text, amount: nullable(float) },
    outputs: { seen: integer },
    apply(state, { id, amount }) {
      if (amount === -1) throw new Reject("no");
      if (amount === 0) return [null, null];
      const seen = (state?.seen ?? 0) + 1;
      return [{ seen, note: `é${id}` }, { seen }];
    },
  });
  const first = run(tally, [{ id: "a", amount: 1 }, { id: "b" }, { id: "a", amount: -1 }, { id: "a", amount: 2 }]);
  assert.deepEqual(first.rows, [{ seen: 1 }, { seen: 2 }, { seen: 1 }]);
  assert.deepEqual(first.origins, [0, 3, 1]);
  assert.deepEqual([...first.rejected], [[2, "no"]]);
  const second = run(tally, [{ id: "a", amount: 0 }, { id: "b", amount: 9 }], { states: first.states });
  assert.deepEqual([...second.states], [["b", { seen: 2, note: "éb" }]]);
});

const keeper = (apply) => folds({ name: "keeper", entity: "id", inputs: { id: text, next: integer }, outputs: { seen: nullable(float) }, apply });

test("a state lasts exactly, whatever it is made of", () => {
  const kept = [NaN, Infinity, -Infinity, -0, 0.1, 2 ** 60, 2n ** 70n, "", "\0", "\0\0NaN", "é🌾\ud800", true, { deep: [{ NaN: NaN, none: null }, [-0]] }, Uint8Array.of(0, 200, 255), [], {}, { n: NaN, s: "\0b" }];
  const states = new Map(kept.map((state, at) => [String(at), state]));
  const fold = keeper((state) => [state, null]);
  assert.deepEqual(run(fold, kept.map((_, at) => ({ id: String(at), next: 0 })), { states }).states, states);
});

test("what cannot last is no state, and it is said where it stands", () => {
  const fails = (state, words) => assert.throws(() => run(keeper(() => [state, null]), [{ id: "a", next: 1 }]), words);
  fails({ a: [1, new Map()] }, /the state\.a\[1\] is a Map; a state is made of/);
  fails({ a: () => 1 }, /the state\.a is a function/);
  fails([undefined], /the state\[0\] is undefined/);
  fails(new Date(0), /the state is a Date/);
  const around = {};
  around.self = around;
  fails(around, /nested too deeply, or contains itself/);
  assert.deepEqual(run(keeper(() => [{ a: undefined, b: 1 }, null]), [{ id: "a", next: 1 }]).states.get("a"), { b: 1 });
});

test("a fold that returns no pair refuses its event", () => {
  for (const returned of [{ seen: 1 }, undefined, [1], [undefined, { seen: 1 }], [1, null, null]]) {
    assert.match(run(keeper(() => returned), [{ id: "a", next: 1 }]).rejected.get(0), /a fold returns \[state, row\]/);
  }
});

test("an event that is refused leaves the state as it was, even if the function has changed it", () => {
  const fold = keeper((state, { next }) => {
    state ??= { list: [], sum: 0 };
    state.list.push(next);
    state.sum += next;
    if (next < 0) throw new Reject("less than nothing");
    log.info(`${next}`);
    return [state, { seen: next === 7 ? "seven" : state.sum }];
  });
  const events = [1, -1, 2, 7, -3, -4, 3].map((next) => ({ id: "a", next }));
  const outcome = run(fold, events);
  assert.deepEqual(outcome.rows, [{ seen: 1 }, { seen: 3 }, { seen: 6 }]);
  assert.deepEqual([...outcome.rejected.keys()], [1, 3, 4, 5]);
  assert.deepEqual(outcome.states.get("a"), { list: [1, 2, 3], sum: 6 });
  assert.deepEqual(outcome.logged.map(([, line]) => line), ["1", "2", "7", "3"]);
});

test("entities of several parts have the text of all of them as their key", () => {
  const fold = folds({ name: "f", entity: ["a", "b"], inputs: { a: text, b: withDefault(integer, 4) }, outputs: { seen: integer }, apply: (state) => [(state ?? 0) + 1, { seen: (state ?? 0) + 1 }] });
  const { rows, states } = run(fold, [{ a: "x" }, { a: "x", b: 5 }, { a: "x", b: 4 }]);
  assert.deepEqual([rows.map(({ seen }) => seen), [...states]], [[1, 2, 1], [['["x",4]', 2], ['["x",5]', 1]]]);
});

test("what is wrong with a definition is said when it is made", () => {
  const base = { name: "x", entity: "id", inputs: { id: text, at: float }, outputs: { out: float }, apply: () => null };
  assert.throws(() => rows({ ...base, name: "a b" }), /a name has 1 to 63/);
  assert.throws(() => rows({ ...base, entity: "customer" }), /there is no input `customer`/);
  assert.throws(() => rows({ ...base, entity: [] }), /whose features/);
  assert.throws(() => rows({ ...base, eventTime: "at" }), /must be a timestamp/);
  assert.throws(() => rows({ ...base, outputs: {} }), /no outputs/);
  assert.throws(() => rows({ ...base, inputs: { id: "text" } }), /`id` has no kind/);
  assert.throws(() => rows({ ...base, entity: "at" }), /`at` is a float and cannot be part of the entity/);
  assert.throws(() => rows({ ...base, entity: ["id", "id"] }), /twice/);
  assert.throws(() => rows({ ...base, inputs: { id: nullable(text) } }), /cannot be nullable/);
  assert.throws(() => rows({ ...base, inputs: { id: text, at: nullable(timestamp) }, eventTime: "at" }), /must be a timestamp that is not nullable/);
  assert.throws(() => rows({ ...base, inputs: { id: text, big: bigint } }), /`big` is a bigint/);
  assert.throws(() => rows({ ...base, outputs: { out: withDefault(float, 1) } }), /defaults are for inputs/);
  assert.throws(() => rows({ ...base, apply: undefined }), /no function `apply`/);
  assert.throws(() => rows({ ...base, streams: "x" }), /there is no `streams` in a definition; known are: name/);
  assert.throws(() => rows({ ...base, stream: "a b" }), /"a b" cannot name a stream/);
  assert.throws(() => rows({ ...base, inputs: { id: text, ["__proto__"]: text } }), /"__proto__" is no name/);
  assert.throws(() => vector(0), /from 1 to 65536/);
  assert.throws(() => run({}, []), /run\(\) takes what/);
});

test("nothing returned is a mistake, and null is not", () => {
  const forgetting = rows({ name: "forgetting", entity: "id", inputs: { id: text, price: float }, outputs: { total: float }, apply({ price }) { ({ total: price }); } });
  assert.match(run(forgetting, [{ id: "a", price: 1 }]).rejected.get(0), /nothing was returned/);
});

test("an event that was frozen is never another one", () => {
  const freezing = rows({ name: "freezing", entity: "id", inputs: { id: text, price: float }, outputs: { total: float }, apply(event) { return { total: Object.freeze(event).price }; } });
  const outcome = run(freezing, [{ id: "a", price: 1 }, { id: "b", price: 2 }]);
  assert.deepEqual(outcome.rows, [{ total: 1 }]);
  assert.equal(outcome.rejected.size, 1);
});

const windowed = (aggregate) => rows({ name: "windowed", entity: "id", inputs: { id: text }, outputs: { total: float, item: text }, aggregate, apply: () => null }).describe("").aggregations;

test("each function of windows is described", () => {
  const numbers = { quantile: 0.5, lastValues: 5, top: 3 };
  const tags = ["count", "sum", "mean", "min", "max", "variance", "first", "last", "distinct", "quantile", "lastValues", "top"];
  for (const of of tags) {
    const number = numbers[of];
    const [found] = windowed({ of: number === undefined ? sdk[of]("item", "90s") : sdk[of]("item", number, "90s") });
    const tag = of === "lastValues" ? "last-values" : of;
    assert.deepEqual(found, { feature: "of", column: "item", function: number === undefined ? { tag } : { tag, val: number }, windowMs: 90_000, doc: "" });
  }
  const [ever] = windowed({ ever: doc(sdk.sum("total"), "Francs.") });
  assert.deepEqual([ever.windowMs, ever.doc], [undefined, "Francs."]);
  assert.deepEqual(Object.entries({ "5m": 300_000, "24h": 86_400_000, "30d": 2_592_000_000 }).filter(([window, ms]) => windowed({ w: sdk.last("item", window) })[0].windowMs !== ms), []);
});

test("what is wrong with a window names its feature", () => {
  for (const [words, wrong] of [
    [/there is no output "totl" to compute it over; the outputs are: total, item/, sdk.count("totl")],
    [/a window of "1 hour"; .* as in "24h"/, sdk.count("total", "1 hour")],
    [/a window of 3600/, sdk.count("total", 3600)],
    [/"count" is no function of a window; there are: count, sum/, "count"],
    [/"median".* is no function of a window/, { aggregate: "median", column: "total" }],
    [/a quantile at 90; 0 to 1 is right/, sdk.quantile("total", 90)],
    [/a list of 0 values/, sdk.top("item", 0)],
    [/a list of 2.5 values/, sdk.lastValues("item", 2.5)],
  ]) {
    assert.throws(() => windowed({ windowed_1h: wrong }), (error) => words.test(error.message) && error.message.includes("aggregation `windowed_1h`"), String(words));
  }
  assert.throws(() => windowed({ total: sdk.count("total") }), /`total`: there is an output of this name too/);
  assert.throws(() => windowed({ "1h": sdk.count("total") }), /`1h`: a name has/);
  assert.throws(() => windowed([sdk.count("total")]), /`aggregate` is an object/);
});

test("a new version takes over the states of another", () => {
  const definition = { name: "count", version: "2.0.0", entity: "id", inputs: { id: text }, outputs: { seen: integer } };
  const apply = (state) => [{ seen: (state?.seen ?? 0) + 1 }, { seen: (state?.seen ?? 0) + 1 }];
  const from = (version, seen) => {
    if (version !== "1.0.0") throw new Reject(`version ${version} is not known here`);
    return { seen };
  };
  const count = folds({ ...definition, apply, migrate: from });
  const states = migrate(count, "1.0.0", new Map([["a", 7], ["b", 1]]));
  assert.deepEqual([...states], [["a", { seen: 7 }], ["b", { seen: 1 }]]);
  assert.deepEqual(run(count, [{ id: "a" }], { states }).rows, [{ seen: 8 }]);
  assert.equal(migrate(count, "1.0.0", new Map()).size, 0);
  assert.throws(() => migrate(count, "0.9.0", states), /version 0.9.0 is not known here/);
  assert.throws(() => migrate(folds({ ...definition, apply, migrate: () => null }), "1.0.0", states), /state 0 was migrated to null/);
  assert.throws(() => migrate(folds({ ...definition, apply }), "1.0.0", states), /with `migrate`/);
  assert.throws(() => folds({ ...definition, apply, migrate: 7 }), /`migrate` is a function/);
  assert.throws(() => rows({ ...definition, apply, migrate: from }), /there is no `migrate` in a definition/);
});

test("columns are the same where they come whole: lists as their bytes, texts as strings", () => {
  const inputs = { id: text, name: nullable(text), whole: integer, far: integer, price: float, point: vector(2), blob: bytes };
  const outputs = { name: nullable(text), sum: float, point: vector(2), blob: bytes };
  const apply = ({ name, whole, far, price, point, blob }) => {
    if (name === "half") return { name: "\ud83c", sum: 0, point, blob };
    return { name: name && `${name}!`, sum: whole + far + price, point: point.map((number) => -number), blob };
  };
  const events = [
    { id: "a", name: "ü🌾", whole: 1, far: 2 ** 40, price: 0.5, point: [1, 2], blob: Uint8Array.of(7) },
    { id: "b", name: null, whole: -2, far: 5, price: 1.5, point: [3, 4], blob: Uint8Array.of() },
    { id: "c", name: "half", whole: 3, far: 6, price: 2.5, point: [5, 6], blob: Uint8Array.of(8, 9) },
    { id: "d", name: "plain", whole: 4, far: -7, price: 3.5, point: [7, 8], blob: Uint8Array.of(1, 0) },
  ];
  const raw = (list, Typed) => new Uint8Array(Typed.from(list).buffer);
  const wholeColumn = ({ values: { tag, val }, validity }) => {
    if (tag === "integers") return { values: { tag, val: raw(val, val.every((value) => (value | 0) === value) ? Int32Array : Float64Array) }, validity };
    if (tag === "floats") return { values: { tag, val: raw(val, Float64Array) }, validity };
    if (tag === "vectors") return { values: { tag, val: { ...val, values: raw(val.values, Float32Array) } }, validity };
    const { offsets, bytes: all } = val;
    if (tag === "blobs") return { values: { tag, val: { offsets: raw(offsets, Uint32Array), bytes: all } }, validity };
    const cut = offsets.slice(1).map((end, row) => Buffer.from(all.slice(offsets[row], end)).toString());
    let length = 0;
    const ends = [0, ...cut.map((value) => (length += value.length))];
    return { values: { tag, val: { offsets: raw(ends, Uint32Array), bytes: cut.join("") } }, validity };
  };
  for (const make of [rows, (definition) => columns({ ...definition, apply: (all) => perRow(all, apply, outputs) })]) {
    const given = make === rows ? events : events.filter(({ name }) => name !== "half");
    const transform = make({ name: "all", entity: "id", inputs, outputs, apply });
    let input;
    const spied = { ...transform, apply: (batch) => transform.apply((input = batch)) };
    const expected = run(spied, given);
    boundary.textIsString = true;
    try {
      const { batch, origins, rejected } = transform.apply({ rows: input.rows, columns: input.columns.map(wholeColumn) });
      const { offsets, bytes: all } = batch.columns[0].values.val;
      const names = Array.from({ length: batch.rows }, (_, row) => all.slice(offsets[row], offsets[row + 1]));
      assert.deepEqual(names, expected.rows.map(({ name }) => name ?? ""));
      assert.deepEqual(Array.from(batch.columns[1].values.val).slice(0, batch.rows), expected.rows.map(({ sum }) => sum));
      assert.deepEqual(Array.from(batch.columns[2].values.val.values).slice(0, 2 * batch.rows), expected.rows.flatMap(({ point }) => point));
      assert.deepEqual([...batch.columns[3].values.val.bytes], expected.rows.flatMap(({ blob }) => [...blob]));
      assert.deepEqual(new Map(rejected.map(({ row, reason }) => [row, reason])), expected.rejected);
      if (make === rows) assert.deepEqual([[...origins], rejected.length], [[0, 1, 3], 1]);
    } finally {
      boundary.textIsString = false;
    }
  }
});

const perRow = (all, apply, outputs) => {
  const made = all.id.map((_, row) => apply(Object.fromEntries(Object.entries(all).map(([name, values]) => [name, values[row]]))));
  return Object.fromEntries(Object.keys(outputs).map((name) => [name, made.map((row) => row[name])]));
};

test("two halves of a pair at the border of two texts are no character", () => {
  const halves = rows({ name: "halves", entity: "id", inputs: { id: text }, outputs: { part: text }, apply: ({ id }) => [{ part: `${id}\ud83c` }, { part: "\udf3e" }] });
  boundary.textIsString = true;
  try {
    const { batch, rejected } = halves.apply({ rows: 1, columns: [{ values: { tag: "texts", val: { offsets: [0, 1], bytes: "a" } }, validity: null }] });
    assert.equal(batch.rows, 0);
    assert.match(rejected[0].reason, /without halves of surrogate pairs/);
  } finally {
    boundary.textIsString = false;
  }
});
