// Five whole columns of numbers: what the bench of languages runs in each of them.
import { columns, float, integer } from "gristmill";

export const transform = columns({
  name: "numbers_columns",
  entity: "customer",
  stream: "orders",
  inputs: { customer: integer, price: float, quantity: integer },
  outputs: { total: float, pieces: integer },
  apply: ({ price, quantity }, _settings, rows) => {
    const total = new Float64Array(rows);
    const pieces = new Float64Array(rows);
    for (let row = 0; row < rows; row++) {
      total[row] = price[row] * quantity[row];
      pieces[row] = quantity[row] + 1;
    }
    return { total, pieces };
  },
});
