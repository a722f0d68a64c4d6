// Five columns of numbers, row by row: what the bench of languages runs in each of them.
import { float, integer, rows } from "gristmill";

export const transform = rows({
  name: "numbers",
  entity: "customer",
  stream: "orders",
  inputs: { customer: integer, price: float, quantity: integer },
  outputs: { total: float, pieces: integer },
  apply: ({ price, quantity }) => ({ total: price * quantity, pieces: quantity + 1 }),
});
