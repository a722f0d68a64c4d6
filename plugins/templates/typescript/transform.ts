// Features of an order.
import { Reject, boolean, doc, float, integer, nullable, rows, text } from "gristmill";

export const transform = rows({
  name: "NAME",
  doc: "The latest order of a customer.",
  stream: "orders",
  entity: "customer",
  inputs: { customer: text, price: float, quantity: integer, coupon: nullable(text) },
  outputs: {
    total: doc(float, "Price of all pieces."),
    discounted: doc(boolean, "Whether a coupon was used."),
  },
  apply({ price, quantity, coupon }) {
    if (quantity < 1) throw new Reject(`quantity is ${quantity}; at least 1 is right`);
    return { total: price * quantity, discounted: coupon !== null };
  },
});
