// Windows that the host keeps over the outputs: what the author says of them, and what the spec says.

const LIST_MAX = 1_000;
const UNITS_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

const made = (of, column, window, value) => Object.freeze({ aggregate: of, column, window, value, doc: "" });
const plain = (of) => (column, window) => made(of, column, window);
const numbered = (of) => (column, number, window) => made(of, column, window, number);

export const count = plain("count");
export const sum = plain("sum");
export const mean = plain("mean");
export const min = plain("min");
export const max = plain("max");
export const variance = plain("variance");
export const first = plain("first");
export const last = plain("last");
export const distinct = plain("distinct");
export const quantile = numbered("quantile");
export const lastValues = numbered("last-values");
export const top = numbered("top");

const KNOWN = { count, sum, mean, min, max, variance, first, last, distinct, quantile, "last-values": lastValues, top };
const NAMES = Object.keys(KNOWN).join(", ").replace("last-values", "lastValues");

/** The aggregations of a spec, out of `{ feature: count("total", "1h"), … }`; `wrong` throws, and is told the feature. */
export function aggregations(declared, outputs, isName, wrong) {
  if (declared === undefined) return [];
  if (declared === null || typeof declared !== "object" || Array.isArray(declared)) wrong('`aggregate` is an object of features: { orders_1h: count("total", "1h") }');
  return Object.entries(declared).map(([feature, given]) => aggregation(feature, given, outputs, isName, (what) => wrong(`aggregation \`${feature}\`: ${what}`)));
}

function aggregation(feature, given, outputs, isName, wrong) {
  if (!isName(feature)) wrong("a name has 1 to 63 letters, digits and _, no digit first");
  if (!Object.hasOwn(KNOWN, given?.aggregate)) wrong(`${JSON.stringify(given)} is no function of a window; there are: ${NAMES}`);
  const { aggregate, column, window, value, doc } = given;
  const names = outputs.map(({ name }) => name);
  if (names.includes(feature)) wrong("there is an output of this name too");
  if (!names.includes(column)) wrong(`there is no output ${JSON.stringify(column)} to compute it over; the outputs are: ${names.join(", ")}`);
  const tag = aggregate;
  if (tag === "quantile" && !(typeof value === "number" && value >= 0 && value <= 1)) wrong(`a quantile at ${JSON.stringify(value)}; 0 to 1 is right`);
  if ((tag === "last-values" || tag === "top") && !(Number.isInteger(value) && value >= 1 && value <= LIST_MAX)) {
    wrong(`a list of ${JSON.stringify(value)} values; 1 to ${LIST_MAX} are allowed`);
  }
  return { feature, column, function: value === undefined ? { tag } : { tag, val: value }, windowMs: milliseconds(window, wrong), doc };
}

function milliseconds(window, wrong) {
  if (window === undefined) return undefined;
  const [, number, unit] = (typeof window === "string" && /^(\d+)([smhd])$/.exec(window)) || [];
  const found = Number(number) * UNITS_MS[unit];
  if (!(found > 0) || !Number.isSafeInteger(found)) wrong(`a window of ${JSON.stringify(window)}; a window is a number and s, m, h or d, as in "24h", and without one it is since the first event`);
  // A number: the runtime takes no bigint here.
  return found;
}
