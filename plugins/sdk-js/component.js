// What a component has beside the author's module: lines of the log go to the host, `console` too, and what a transform has not says so.

import { write } from "gristmill:transform/log@1.0.0";
import { log } from "./index.js";
import { setWriter } from "./log.js";
import { boundary } from "./values.js";

setWriter(write);

const shown = (value) => {
  if (typeof value === "string" || value instanceof Error) return String(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
};
const line = (level) => (...values) => log[level](values.map(shown).join(" "));
globalThis.console = { debug: line("debug"), log: line("info"), info: line("info"), warn: line("warn"), error: line("error") };

// The engine would end the call with a trap, or repeat itself in each instance. An error refuses the event, with a reason.
const clockless = () => {
  throw new Error("a transform has no clock; take the time of the event");
};
Date.now = clockless;
globalThis.Date = new Proxy(Date, {
  apply: clockless,
  construct: (target, given, made) => (given.length === 0 ? clockless() : Reflect.construct(target, given, made)),
});
// A date's constructor is what `Date` names.
Date.prototype.constructor = Date;
delete globalThis.performance;
Math.random = () => {
  throw new Error("a transform has no randomness: the same events lead to the same rows");
};

const MAKERS = { transform: "rows({…})", fold: "folds({…})" };

/** The migration of a module's fold, which its world asks for. Without it a build fails. */
export function migrating(module) {
  if (typeof module.fold?.migration?.migrate === "function") return module.fold.migration;
  exported(module, "fold", true);
  throw new TypeError('the fold has no `migrate`; give it one, or write in plugin.toml: world = "stateful-transform"');
}

/** Says that texts go to the host as strings, in a component that has been made to take them so. */
export const textIsString = () => {
  boundary.textIsString = true;
};

/** What a module exports under the name that its world asks for: `transform`, or `fold` where it is stateful. Without it a build fails. */
export function exported(module, name, migrates = false) {
  const found = module[name];
  if (found?.migration !== undefined && !migrates) throw new TypeError('the fold has a `migrate`; write in plugin.toml: world = "migrating-transform"');
  if (typeof found?.describe === "function") return found;
  const other = name === "fold" ? "transform" : "fold";
  if (typeof module[other]?.describe !== "function") throw new TypeError(`the module exports no \`${name}\`; write: export const ${name} = ${MAKERS[name]}`);
  const world = other === "fold" ? "stateful-transform" : "row-transform";
  throw new TypeError(`the module exports a \`${other}\` and the world asks for a \`${name}\`; write in plugin.toml: world = "${world}"`);
}
