//! Tokens, made by the program.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::host::binary;

/// The text of a token and the lines of its configuration, both from the command line.
pub struct Token {
    /// What a client sends.
    pub text: String,
    /// What a host is told: a `[[http.tokens]]`.
    pub config: String,
}

impl Token {
    /// `gristmill token new`, with these scopes, separated by commas, and more arguments.
    pub fn new(name: &str, scopes: &str, more: &[&str]) -> Token {
        let made = gristmill(&[&["token", "new", "--json", "--name", name, "--scope", scopes], more].concat(), &[]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made: Value = serde_json::from_slice(&made.stdout).expect("the command prints JSON");
        let member = |name: &str| made[name].as_str().expect("a text").to_owned();
        Token { text: member("token"), config: member("config") }
    }

    /// The value of `authorization`.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.text)
    }
}

/// The program with these arguments, and nothing in its environment that names a host.
pub fn gristmill(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("GRISTMILL_HOST").env_remove("GRISTMILL_TOKEN").stdin(Stdio::null());
    command.envs(environment.iter().copied()).output().expect("the program is built")
}
