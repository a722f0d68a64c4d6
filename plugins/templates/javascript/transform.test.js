import assert from "node:assert/strict";
import test from "node:test";

import { run } from "gristmill/testing";
import { transform } from "./transform.js";

test("a total is the price of all pieces; an order of nothing is refused", () => {
  const { rows, rejected } = run(transform, [
    { customer: "ann", price: 12.5, quantity: 2 },
    { customer: "eve", price: 1, quantity: 0 },
  ]);
  assert.deepEqual(rows, [{ total: 25, discounted: false }]);
  assert.equal(rejected.get(1), "quantity is 0; at least 1 is right");
});
