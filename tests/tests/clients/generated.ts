// Uses the client that a generator made of a host's `/openapi.json`: the arguments are the host's address, a token and a component.
import { readFile } from "node:fs/promises";
import { deepStrictEqual as same, ok } from "node:assert";
import { createClient } from "./host/client";
import {
    appendEvents, deleteTransform, feastGetOnlineFeatures, followChanges, listDeadLetters, listTransforms, listViews, metrics, putService,
    putTransform, queryFeatures, queryOneEntity, showTransform,
} from "./host";

const [url, token, component] = process.argv.slice(2) as [string, string, string];
const client = createClient({ baseUrl: url, auth: token });
const throwOnError = true;

const bytes = new Blob([await readFile(component)]);
const put = await putTransform({ client, throwOnError, path: { name: "tutorial" }, query: { stream: "readings" }, body: bytes });
same([put.data.name, put.data.stream, put.data.origin], ["tutorial", "readings", "pushed"]);
const { data: { transforms } } = await listTransforms({ client, throwOnError });
same(transforms.map(({ name }) => name), ["tutorial"]);
const { data: { views } } = await listViews({ client, throwOnError });
same(views[0]?.features.map(({ name, kind }) => [name, kind]), [["feature1", "float"], ["feature2", "float"]]);

const features = ["tutorial:feature1", "tutorial:feature2"];
await putService({ client, throwOnError, path: { service: "readings" }, body: { features } });
const send = (id: string, value: number) => appendEvents({ client, throwOnError, path: { stream: "readings" }, body: [{ id, value }] });

// Events are sent until a change arrives, as nobody is told when the host has begun to follow.
const following = new AbortController();
const { stream } = await followChanges({ client, query: { view: ["tutorial"] }, signal: following.signal });
let hasArrived = false;
const first = stream.next().finally(() => { hasArrived = true; });
while (!hasArrived) await send("c", 0);
const { value: change } = await first;
ok(change !== undefined && typeof change === "object" && "entity" in change);
same(change.entity, { id: "c" });
const { data: { ids: [id] } } = await send("a", 4);
for await (const change of stream) {
    if ("entry_id" in change && change.entry_id === id) break;
}
// Who leaves the loop has not closed the connection yet.
following.abort();

const entities = [{ id: "a" }, { id: "b" }];
const served = await queryFeatures({ client, throwOnError, body: { service: "readings", entities, provenance: true } });
ok("results" in served.data);
const [known, unknown] = served.data.results;
same([known?.values, known?.statuses], [[8, 14], ["present", "present"]]);
same([unknown?.values, unknown?.statuses, unknown?.event_times], [[null, null], ["not_found", "not_found"], [null, null]]);
same(known?.provenance?.[0]?.entry_id, id);
same(known?.provenance?.[0]?.component, put.data.component);

const columns = await queryFeatures({ client, throwOnError, body: { view: "tutorial", entities, layout: "columns" } });
ok("columns" in columns.data);
same(columns.data.columns[0]?.values, [8, null]);
const one = await queryOneEntity({ client, throwOnError, path: { view: "tutorial" }, query: { entity: { id: "a" }, features: "feature1" } });
same(one.data.results[0]?.values, [8]);
const asFeast = { features: ["tutorial:feature1"], entities: { id: ["a", "b"] } };
const { data: feast } = await feastGetOnlineFeatures({ client, throwOnError, body: asFeast });
same(feast.metadata.feature_names, ["id", "feature1"]);
same(feast.results.map(({ values }) => values), [["a", "b"], [8, null]]);

const refused = await queryFeatures({ client, body: { view: "nowhere", entities } });
same([refused.response?.status, refused.error?.error.code], [404, "not_found"]);
const stranger = await showTransform({ client: createClient({ baseUrl: url }), path: { name: "tutorial" } });
same([stranger.response?.status, stranger.error?.error.code], [401, "unauthorized"]);

same((await listDeadLetters({ client, throwOnError })).data.dead_letters, []);
ok((await metrics({ client, throwOnError, parseAs: "text" })).data.includes("gristmill_entries_settled_total"));
same((await deleteTransform({ client, throwOnError, path: { name: "tutorial" } })).response.status, 204);
console.log("all right");
