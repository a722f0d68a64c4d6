// A window of one's own: what a shop has sold in its business day, which begins when the calendar on its wall says so, and in the one before.
import { Reject, doc, float, folds, integer, text, timestamp } from "gristmill";

const MINUTE = 60_000_000; // microseconds
const DAY = 1_440 * MINUTE;

/** Two days of one shop; the beginning of the later one in microseconds. */
interface Days {
  began: number;
  sales: number;
  total: number;
  before: number;
}

export const fold = folds({
  name: "business_days",
  version: "1.0.0",
  doc: "What a shop has sold in its business day, and in the one before.",
  stream: "sales",
  entity: "shop",
  eventTime: "at",
  settings: { begins_at_hour: 4, utc_offset_minutes: 0 },
  inputs: { shop: text, at: timestamp, amount: float },
  outputs: {
    began: doc(timestamp, "When it began."),
    sales: doc(integer, "Sales in it."),
    total: doc(float, "What they came to."),
    total_before: doc(float, "What those of the day before came to."),
  },
  apply(state: Days | null, { at, amount }, settings) {
    const shift = settings.begins_at_hour * 60 * MINUTE - settings.utc_offset_minutes * MINUTE;
    const began = Math.floor((at - shift) / DAY) * DAY + shift;
    let days = state ?? { began, sales: 0, total: 0, before: 0 };
    if (began < days.began - DAY) throw new Reject("the books of that day are closed");
    if (began > days.began) {
      days = { began, sales: 0, total: 0, before: began === days.began + DAY ? days.total : 0 };
    }
    days = began === days.began
      ? { ...days, sales: days.sales + 1, total: days.total + amount }
      : { ...days, before: days.before + amount };
    return [days, { began: days.began, sales: days.sales, total: days.total, total_before: days.before }];
  },
});
