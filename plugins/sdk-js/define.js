// From what the author says about a transform to what `describe` answers.

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/;
const listed = (value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]);

/** Thrown for an event that is no use: it becomes a dead letter with this reason, and its neighbours are unharmed. */
export class Reject extends Error {}

export const reasonOf = (error) => (error instanceof Reject ? error.message : String(error));

/** What the contract fails with is a text. */
export function attempt(work) {
  try {
    return work();
  } catch (error) {
    throw reasonOf(error);
  }
}

/** Looks at a definition and throws what is wrong with it; gives its fields, its settings and `describe`. */
export function define(definition) {
  const { name, entity, eventTime } = definition;
  const wrong = (message) => {
    throw new TypeError(`transform ${JSON.stringify(name)}: ${message}`);
  };
  if (!NAME.test(name)) wrong("a name has 1 to 63 letters, digits and _, no digit first");
  const made = { inputs: fields(definition.inputs, wrong), outputs: fields(definition.outputs, wrong), settings: definition.settings };
  const input = (field) => made.inputs.find(({ name }) => name === field) ?? wrong(`there is no input \`${field}\``);
  if (listed(entity).length === 0) wrong('say whose features these are: entity: "field"');
  if (made.outputs.length === 0) wrong("it has no outputs");
  listed(entity).forEach((field) => input(field).nullable && wrong(`\`${field}\` is part of the entity and cannot be nullable`));
  if (eventTime !== undefined && input(eventTime).kind !== "timestamp") wrong(`\`${eventTime}\` is the event time and must be a timestamp`);
  made.describe = (settings) =>
    attempt(() => {
      if (settings.trim() !== "") made.settings = given(definition.settings, JSON.parse(settings));
      return {
        name,
        version: definition.version ?? "0.1.0",
        doc: definition.doc ?? "",
        streams: listed(definition.stream),
        entity: listed(entity),
        eventTime,
        inputs: made.inputs,
        outputs: made.outputs,
        aggregations: [],
      };
    });
  return made;
}

function fields(of, wrong) {
  return Object.entries(of ?? {}).map(([name, field]) => {
    if (!NAME.test(name)) wrong(`${JSON.stringify(name)} is no name for a field`);
    if (typeof field?.kind !== "string") wrong(`\`${name}\` has no kind; write for instance \`${name}: float\``);
    return { name, kind: field.kind, nullable: field.nullable, default: field.default, width: field.width, doc: field.doc ?? "" };
  });
}

function given(defaults, settings) {
  if (defaults === undefined) throw new TypeError("this transform takes no settings");
  const known = Object.keys(defaults);
  for (const [name, value] of Object.entries(settings)) {
    if (!known.includes(name)) throw new TypeError(`there is no setting \`${name}\`; known are: ${known.join(", ")}`);
    if (typeof value !== typeof defaults[name]) throw new TypeError(`the setting \`${name}\` is ${JSON.stringify(value)}; expected a ${typeof defaults[name]}`);
  }
  return { ...defaults, ...settings };
}
