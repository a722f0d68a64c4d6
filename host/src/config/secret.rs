//! Addresses that may hold a password.

use std::fmt;

use serde::Deserialize;

use crate::resp::Site;

/// A text that may hold a password: never printed, never serialised.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}

/// The one URL that is given, from the file or from the environment.
pub(super) fn resolve_url(
    key: &str,
    text: Option<Secret>,
    env: Option<&str>,
    cluster: bool,
    complain: &mut impl FnMut(String, String),
) -> Secret {
    let (place, url) = match (text, env) {
        (Some(_), Some(_)) => {
            complain(format!("{key}.url"), "give `url` or `url_env`, not both".into());
            return Secret::default();
        }
        (None, None) => return Secret("redis://127.0.0.1:6379/0".to_owned()),
        (Some(Secret(url)), None) => ("url", url),
        (None, Some(name)) => match std::env::var(name) {
            Ok(url) => ("url_env", url),
            Err(_) => {
                complain(format!("{key}.url_env"), format!("the environment variable `{name}` is not set"));
                return Secret::default();
            }
        },
    };
    if let Err(message) = Site::parse(&url, cluster) {
        complain(format!("{key}.{place}"), message);
    } else if place == "url" && url.split(',').any(holds_password) {
        let advice = "a password does not belong in the file; put the URL into an environment variable and name that in `url_env`";
        complain(format!("{key}.url"), advice.into());
    }
    Secret(url)
}

fn holds_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest).split(['/', '?']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) || url.contains("pass=")
}
