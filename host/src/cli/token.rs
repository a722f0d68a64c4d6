use clap::Subcommand;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Failure, print};
use crate::model::Digest;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a token; it is shown once, and the configuration gets its hash
    #[command(after_help = "Example: gristmill token new --name model-server --scope read --view 'orders_*'")]
    New(NewArguments),
}

#[derive(clap::Args)]
struct NewArguments {
    /// Who it is for, as the audit log will say
    #[arg(long, default_value = "client")]
    name: String,
    /// What it allows: read, write or admin, several with commas; none implies another
    #[arg(long = "scope", value_delimiter = ',', default_value = "read", value_parser = ["read", "write", "admin"])]
    scopes: Vec<String>,
    /// The views it is limited to, as names or beginnings with *, several with commas
    #[arg(long = "view", value_delimiter = ',', value_name = "NAME")]
    views: Vec<String>,
    /// The streams it is limited to
    #[arg(long = "stream", value_delimiter = ',', value_name = "NAME")]
    streams: Vec<String>,
    /// When it ends, as 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn token(arguments: &Arguments) -> Result<(), Failure> {
    let Action::New(arguments) = &arguments.action;
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("the system gives no random bytes: {error}"))?;
    // The beginning tells scanners for secrets what they have found.
    let token = format!("gristmill_{}", Digest(random));
    let sha256 = Digest(Sha256::digest(&token).into());
    let config = config(arguments, sha256);
    // What a host would refuse is told before the token is given away.
    crate::config::Config::parse(&config, "the new token", std::path::Path::new("")).map_err(|error| Failure::Wrong(error.into()))?;
    if arguments.json {
        print::json(&json!({"token": token, "config": config}));
        return Ok(());
    }
    print::line(&token);
    print::note("this is the only time that the token is shown; the host's configuration gets these lines:");
    print::note("");
    config.lines().for_each(print::note);
    Ok(())
}

/// The lines of the configuration.
fn config(arguments: &NewArguments, sha256: Digest) -> String {
    // TOML writes texts, and lists of them, as JSON does.
    let lists = [("scopes", &arguments.scopes), ("views", &arguments.views), ("streams", &arguments.streams)];
    let lists = lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, json!(list)));
    let expires = arguments.expires.iter().map(|expires| ("expires", json!(expires)));
    let settings = [("name", json!(arguments.name)), ("sha256", json!(sha256))].into_iter().chain(lists).chain(expires);
    settings.fold("[[http.tokens]]\n".to_owned(), |text, (key, value)| format!("{text}{key} = {value}\n"))
}
