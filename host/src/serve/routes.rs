//! Every method and path that the host answers, in one table. The router, the route labels of the metrics and the check of `openapi.json` are
//! all made from it, so they cannot disagree. So is the check of tokens: an operation stands here with what it needs, or not at all.

use std::sync::Arc;

use axum::Extension;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};

use super::access::{Names, Needs};
use super::body::BodyLimit;
use super::{Limits, Shared, changes, events, feast, features, letters, services, shadow, states, status, streams, transforms, versions};
use crate::model::Scope;

/// One method of one path, and what answers it.
pub(super) struct Route {
    /// What is asked for.
    pub(super) operation: Operation,
    /// What answers it.
    pub(super) answer: MethodRouter<Arc<Shared>>,
}

/// One method of one path, and what it needs of who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    /// The method.
    pub(super) method: &'static str,
    /// The path's template.
    pub(super) path: &'static str,
    /// What the host asks for where it has tokens.
    pub(super) needs: Needs,
}

impl Operation {
    /// Whether a component is compiled within the request, which takes longer than anything else does.
    pub(super) fn compiles(self) -> bool {
        (self.method == "PUT" && [TRANSFORM_PATH, SHADOW_PATH].contains(&self.path))
            || [ACTIVATE_PATH, ROLL_BACK_PATH, PROMOTE_PATH].contains(&self.path)
    }
}

const TRANSFORM_PATH: &str = "/v1/transforms/{name}";
const ACTIVATE_PATH: &str = "/v1/transforms/{name}/activate";
const ROLL_BACK_PATH: &str = "/v1/transforms/{name}/roll-back";
const SHADOW_PATH: &str = "/v1/transforms/{name}/shadow";
const PROMOTE_PATH: &str = "/v1/transforms/{name}/shadow/promote";

/// The one operation that does not go through the router, and names its views in its body.
pub(super) const QUERY: Operation = Operation { method: "POST", path: features::QUERY_PATH, needs: read(Names::Handler) };

const OPEN: Needs = Needs::Nothing;

const fn read(names: Names) -> Needs {
    Needs::Scope(Scope::Read, names)
}

const fn write(names: Names) -> Needs {
    Needs::Scope(Scope::Write, names)
}

const fn admin(names: Names) -> Needs {
    Needs::Scope(Scope::Admin, names)
}

/// All of them. A path may stand here several times, once for each of its methods.
pub(super) fn routes(limits: &Limits) -> Vec<Route> {
    vec![
        get("/", OPEN, status::index),
        get("/livez", OPEN, status::livez),
        get("/readyz", OPEN, status::readyz),
        get("/metrics", read(Names::All), status::metrics),
        get("/openapi.json", OPEN, status::openapi),
        post(QUERY.path, QUERY.needs, features::query_routed),
        get("/v1/features/{view}", read(Names::View), features::query_one),
        get("/v1/states/{view}", read(Names::View), states::show),
        get("/v1/changes", read(Names::Handler), changes::follow),
        get("/v1/views", read(Names::Handler), status::views),
        get("/v1/views/{view}", read(Names::View), status::view),
        get("/v1/services", read(Names::Handler), services::list),
        get("/v1/services/{service}", read(Names::Handler), services::show),
        put("/v1/services/{service}", admin(Names::Handler), services::put, limits.body_bytes_max),
        delete("/v1/services/{service}", admin(Names::Handler), services::delete),
        get("/v1/streams", read(Names::Handler), streams::list),
        post("/v1/streams/{stream}/events", write(Names::Stream), events::append),
        // Raw events hold what transforms leave out: they are for those who run the host.
        get("/v1/streams/{stream}/events", admin(Names::Stream), events::newest),
        get("/v1/transforms", read(Names::Handler), transforms::list),
        get(TRANSFORM_PATH, read(Names::View), transforms::show),
        put(TRANSFORM_PATH, admin(Names::View), transforms::put, limits.component_bytes_max),
        delete(TRANSFORM_PATH, admin(Names::View), transforms::delete),
        post("/v1/transforms/{name}/pause", admin(Names::View), transforms::pause),
        post("/v1/transforms/{name}/resume", admin(Names::View), transforms::resume),
        post("/v1/transforms/{name}/switch", admin(Names::View), transforms::switch),
        get("/v1/transforms/{name}/versions", read(Names::View), versions::list),
        post(ACTIVATE_PATH, admin(Names::View), versions::activate),
        post(ROLL_BACK_PATH, admin(Names::View), versions::roll_back),
        // Examples hold what transforms make of events: features, as `read` shows them, and messages.
        get(SHADOW_PATH, admin(Names::View), shadow::show),
        put(SHADOW_PATH, admin(Names::View), shadow::put, limits.component_bytes_max),
        delete(SHADOW_PATH, admin(Names::View), shadow::delete),
        post(PROMOTE_PATH, admin(Names::View), shadow::promote),
        get("/v1/dead-letters", admin(Names::Handler), letters::list),
        delete("/v1/dead-letters", admin(Names::Handler), letters::drop),
        post("/v1/dead-letters/replay", admin(Names::Handler), letters::replay),
        get("/v1/dead-letters/{stream}/{entry_id}/{transform}", admin(Names::Handler), letters::show),
        get("/health", OPEN, feast::health),
        post("/get-online-features", read(Names::Handler), feast::get_online_features),
        post("/push", write(Names::Handler), feast::push),
        post("/write-to-online-store", write(Names::Handler), feast::write_to_online_store),
    ]
}

fn get<H: Handler<T, Arc<Shared>>, T: 'static>(path: &'static str, needs: Needs, handler: H) -> Route {
    Route { operation: Operation { method: "GET", path, needs }, answer: routing::get(handler) }
}

fn post<H: Handler<T, Arc<Shared>>, T: 'static>(path: &'static str, needs: Needs, handler: H) -> Route {
    Route { operation: Operation { method: "POST", path, needs }, answer: routing::post(handler) }
}

/// A request whose body has a limit of its own, in bytes.
fn put<H: Handler<T, Arc<Shared>>, T: 'static>(path: &'static str, needs: Needs, handler: H, body_bytes_max: usize) -> Route {
    let answer = routing::put(handler).layer(Extension(BodyLimit(body_bytes_max)));
    Route { operation: Operation { method: "PUT", path, needs }, answer }
}

fn delete<H: Handler<T, Arc<Shared>>, T: 'static>(path: &'static str, needs: Needs, handler: H) -> Route {
    Route { operation: Operation { method: "DELETE", path, needs }, answer: routing::delete(handler) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn openapi_describes_the_routes_and_what_they_need_and_nothing_else() {
        let description: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let mut described = BTreeMap::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
                described.insert(format!("{} {path}", method.to_uppercase()), operation["security"].clone());
            }
        }
        let security = |needs| match needs {
            Needs::Nothing => json!([]),
            Needs::Scope(scope, _) => json!([{"token": [scope.to_string()]}]),
        };
        let all = routes(&Limits::default());
        let served =
            all.iter().map(|Route { operation, .. }| (format!("{} {}", operation.method, operation.path), security(operation.needs)));
        assert_eq!(described, served.collect());
    }
}
