// Five columns, three of them text, row by row: what the bench of languages runs in each of them.
import { float, rows, text } from "gristmill";

export const transform = rows({
  name: "text",
  entity: "customer",
  stream: "orders",
  inputs: { customer: text, country: text, price: float },
  outputs: { label: text, total: float },
  apply: ({ customer, country, price }) => ({ label: `${customer}/${country}`, total: price * 2 }),
});
