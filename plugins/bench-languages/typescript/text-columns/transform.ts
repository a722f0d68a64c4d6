// Five whole columns, three of them text: what the bench of languages runs in each of them.
import { columns, float, text } from "gristmill";

export const transform = columns({
  name: "text_columns",
  entity: "customer",
  stream: "orders",
  inputs: { customer: text, country: text, price: float },
  outputs: { label: text, total: float },
  apply: ({ customer, country, price }, _settings, rows) => {
    const label = new Array<string>(rows);
    const total = new Float64Array(rows);
    for (let row = 0; row < rows; row++) {
      label[row] = `${customer[row]}/${country[row]}`;
      total[row] = price[row] * 2;
    }
    return { label, total };
  },
});
