import assert from "node:assert/strict";
import test from "node:test";

import { Reject, boolean, bytes, columns, doc, float, folds, integer, log, nullable, rows, text, timestamp, vector, withDefault } from "../index.js";
import { run } from "../testing.js";

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
  assert.throws(() => run(order, [{ customer: "a" }]), /event 0 never reaches the transform: `price` is null/);
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
  if (!("isWellFormed" in String.prototype)) return;
  assert.deepEqual([...run(half, [{ id: "a" }, { id: "b" }]).rejected.keys()], [1]);
});

test("whole columns must be as long as the batch", () => {
  const made = (total) => columns({ name: "c", entity: "id", inputs: { id: text, price: float }, outputs: { total: float }, apply: total });
  assert.deepEqual(run(made(({ price }) => ({ total: price.map((price) => price * 2) })), [{ id: "a", price: 1 }, { id: "b", price: 2 }]).rows, [{ total: 2 }, { total: 4 }]);
  assert.throws(() => run(made(() => ({ total: [1] })), [{ id: "a", price: 1 }, { id: "b", price: 2 }]), /`total` has 1 values for 2 rows/);
  assert.throws(() => run(made(() => ({ total: [1, "x"] })), [{ id: "a", price: 1 }, { id: "b", price: 2 }]), /row 1: `total` is "x"/);
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

test("what is wrong with a definition is said when it is made", () => {
  const base = { name: "x", entity: "id", inputs: { id: text, at: float }, outputs: { out: float }, apply: () => null };
  assert.throws(() => rows({ ...base, name: "a b" }), /a name has 1 to 63/);
  assert.throws(() => rows({ ...base, entity: "customer" }), /there is no input `customer`/);
  assert.throws(() => rows({ ...base, entity: [] }), /whose features/);
  assert.throws(() => rows({ ...base, eventTime: "at" }), /must be a timestamp/);
  assert.throws(() => rows({ ...base, outputs: {} }), /no outputs/);
  assert.throws(() => rows({ ...base, inputs: { id: "text" } }), /`id` has no kind/);
  assert.throws(() => vector(0), /from 1 to 65536/);
});
