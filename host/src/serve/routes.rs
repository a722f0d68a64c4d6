//! Every method and path that the host answers, in one table. The router, the route labels of the metrics and the check of `openapi.json` are
//! all made from it, so they cannot disagree.

use std::sync::Arc;

use axum::Extension;
use axum::handler::Handler;
use axum::routing::{self, MethodRouter};

use super::body::BodyLimit;
use super::{Limits, Shared, events, features, letters, services, states, status, transforms};

/// One method of one path, and what answers it.
pub(super) struct Route {
    /// The method; only the tests need it as text.
    #[cfg_attr(not(test), expect(dead_code, reason = "the router knows the method by itself"))]
    pub(super) method: &'static str,
    /// The path's template.
    pub(super) path: &'static str,
    /// What answers it.
    pub(super) answer: MethodRouter<Arc<Shared>>,
}

/// All of them. A path may stand here several times, once for each of its methods.
pub(super) fn routes(limits: &Limits) -> Vec<Route> {
    vec![
        get("/", status::index),
        get("/livez", status::livez),
        get("/readyz", status::readyz),
        get("/metrics", status::metrics),
        get("/openapi.json", status::openapi),
        post(features::QUERY_PATH, features::query_routed),
        get("/v1/features/{view}", features::query_one),
        get("/v1/states/{view}", states::show),
        get("/v1/views", status::views),
        get("/v1/views/{view}", status::view),
        get("/v1/services", services::list),
        get("/v1/services/{service}", services::show),
        put("/v1/services/{service}", services::put, limits.body_bytes_max),
        delete("/v1/services/{service}", services::delete),
        post("/v1/streams/{stream}/events", events::append),
        get("/v1/streams/{stream}/events", events::newest),
        get("/v1/transforms", transforms::list),
        get("/v1/transforms/{name}", transforms::show),
        put("/v1/transforms/{name}", transforms::put, limits.component_bytes_max),
        delete("/v1/transforms/{name}", transforms::delete),
        get("/v1/dead-letters", letters::list),
        delete("/v1/dead-letters", letters::drop),
        post("/v1/dead-letters/replay", letters::replay),
        get("/v1/dead-letters/{stream}/{entry_id}/{transform}", letters::show),
    ]
}

fn get<H: Handler<T, Arc<Shared>>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route { method: "GET", path, answer: routing::get(handler) }
}

fn post<H: Handler<T, Arc<Shared>>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route { method: "POST", path, answer: routing::post(handler) }
}

/// A request whose body has a limit of its own, in bytes.
fn put<H: Handler<T, Arc<Shared>>, T: 'static>(path: &'static str, handler: H, body_bytes_max: usize) -> Route {
    Route { method: "PUT", path, answer: routing::put(handler).layer(Extension(BodyLimit(body_bytes_max))) }
}

fn delete<H: Handler<T, Arc<Shared>>, T: 'static>(path: &'static str, handler: H) -> Route {
    Route { method: "DELETE", path, answer: routing::delete(handler) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn openapi_describes_the_routes_and_nothing_else() {
        let description: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let mut described = BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let served: BTreeSet<String> = routes(&Limits::default()).iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        assert_eq!(described, served);
    }
}
