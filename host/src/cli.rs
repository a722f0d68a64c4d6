//! The command line: arguments, printing, exit codes. The work is done on the floors below, or by a running host.

mod build;
mod client;
mod conformance;
mod dead_letters;
mod demo;
mod dev;
mod get;
mod ingest;
mod inspect;
mod logging;
mod new;
mod print;
mod run;
mod sdk;
mod shadow;
mod standing;
mod state;
mod streams;
mod test;
mod token;
mod transforms;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Features from streams, computed by WebAssembly components while the events arrive.
#[derive(Parser)]
#[command(name = "gristmill", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done · 1 the work failed · 2 wrong arguments or configuration · 3 no host answers · 4 not found\n\n\
Start with: gristmill demo")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replay two weeks of real flights through the host and serve their features
    #[command(after_help = "Example: gristmill demo --listen 127.0.0.1:7171")]
    Demo(demo::Arguments),
    /// Run a host
    #[command(after_help = "Example: gristmill run --config gristmill.toml")]
    Run(run::Arguments),
    /// Check a configuration and everything it names, without running it
    #[command(after_help = "Example: gristmill check --config gristmill.toml")]
    Check(run::CheckArguments),
    /// Show what a component is: its digest, imports, inputs and outputs
    #[command(after_help = "Example: gristmill inspect plugins/prebuilt/tutorial.wasm --json")]
    Inspect(inspect::Arguments),
    /// Make a folder with a plugin that builds, a unit test and a data case
    #[command(after_help = "Example: gristmill new spending --lang python")]
    New(new::Arguments),
    /// Build a plugin's folder into a component
    #[command(after_help = "Example: gristmill build examples/own-plugin --out own.wasm")]
    Build(build::Arguments),
    /// Run a plugin's data cases, events in and rows out, in the engine that hosts have
    #[command(after_help = "Example: gristmill test examples/own-plugin")]
    Test(test::Arguments),
    /// Rebuild on save, load into a running host, show the last events' rows
    #[command(after_help = "Example: gristmill dev examples/own-plugin")]
    Dev(dev::Arguments),
    /// Try hostile guests, written and random, against this machine's engine
    #[command(after_help = "Example: gristmill conformance --random 10000")]
    Conformance(conformance::Arguments),
    /// Load a component into a running host
    #[command(after_help = "Example: gristmill push own.wasm --name own --stream payments")]
    Push(Box<transforms::PushArguments>),
    /// List, show or delete the transforms of a running host, and their versions
    #[command(after_help = "Example: gristmill transforms versions own")]
    Transforms(transforms::Arguments),
    /// Let a transform of a running host read nothing until it is resumed
    #[command(after_help = "Example: gristmill pause own")]
    Pause(standing::Arguments),
    /// Let a paused transform go on where it was paused
    #[command(after_help = "Example: gristmill resume own")]
    Resume(standing::Arguments),
    /// Make a version the one that a view's name means, once it has caught up
    #[command(after_help = "Example: gristmill switch own@v2 (after gristmill push own.wasm --name own@v2 --start beginning)")]
    Switch(standing::SwitchArguments),
    /// Put the version of a transform back into force that was before, or one by its number
    #[command(after_help = "Example: gristmill rollback own")]
    Rollback(transforms::RollbackArguments),
    /// Show the streams of a running host: who reads them, where rows go on to, how far behind
    #[command(after_help = "Example: gristmill streams --partitions")]
    Streams(streams::Arguments),
    /// Try a new version behind the one in force, compare, and let it take over
    #[command(after_help = "Example: gristmill shadow put payment payment-2.wasm")]
    Shadow(shadow::Arguments),
    /// Send events from a file to a stream of a running host
    #[command(after_help = "Example: gristmill ingest flights examples/flights/flights-2013-01.ndjson.gz")]
    Ingest(ingest::Arguments),
    /// Read features from a running host
    #[command(after_help = "Example: gristmill get aircraft tailnum=N14228")]
    Get(get::Arguments),
    /// Show the state that a fold keeps for an entity of a running host, and what windows and history take
    #[command(after_help = "Example: gristmill state sessions customer=ann")]
    State(state::Arguments),
    /// Make a token for a host that asks for them
    #[command(after_help = "Example: gristmill token new --name model-server --scope read")]
    Token(token::Arguments),
    /// List, show, replay or drop events that no transform could use
    #[command(after_help = "Example: gristmill dead-letters replay --transform aircraft")]
    DeadLetters(dead_letters::Arguments),
}

/// Why a command did not succeed, as scripts see it.
pub(crate) enum Failure {
    /// The work failed.
    Failed(anyhow::Error),
    /// Arguments or configuration are wrong.
    Wrong(anyhow::Error),
    /// No host answers.
    Unreachable(anyhow::Error),
    /// What was named does not exist.
    NotFound(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Failed(error.into())
    }
}

/// A component's largest file: what a host takes, and some more.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;

/// A component out of a file.
pub(crate) fn read_component(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    let read = || {
        let about = std::fs::metadata(path)?;
        if !about.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        if about.len() > COMPONENT_BYTES_MAX {
            return Err(std::io::Error::other(format!("it has {} bytes; a component has at most {COMPONENT_BYTES_MAX}", about.len())));
        }
        std::fs::read(path)
    };
    read().map_err(|error| Failure::Wrong(anyhow::anyhow!("cannot read {}: {error}", path.display())))
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let command = Arguments::parse().command;
    if !matches!(command, Command::Demo(_) | Command::Run(_)) {
        // A reader that has seen enough (`| head`) ends the program quietly instead of failing its next write. Never so for a host: the signal
        // also comes when a client of its HTTP interface goes away in the middle of an answer.
        print::end_on_broken_pipe();
    }
    let outcome = match command {
        Command::Demo(arguments) => demo::demo(arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => run::check(&arguments),
        Command::Inspect(arguments) => inspect::inspect(&arguments),
        Command::New(arguments) => new::new(&arguments),
        Command::Build(arguments) => build::build(&arguments),
        Command::Test(arguments) => test::test(&arguments),
        Command::Dev(arguments) => dev::dev(&arguments),
        Command::Conformance(arguments) => conformance::conformance(&arguments),
        Command::Push(arguments) => transforms::push(&arguments),
        Command::Transforms(arguments) => transforms::transforms(&arguments),
        Command::Pause(arguments) => standing::pause(&arguments),
        Command::Resume(arguments) => standing::resume(&arguments),
        Command::Switch(arguments) => standing::switch(&arguments),
        Command::Rollback(arguments) => transforms::rollback(&arguments),
        Command::Streams(arguments) => streams::streams(&arguments),
        Command::Shadow(arguments) => shadow::shadow(&arguments),
        Command::Ingest(arguments) => ingest::ingest(&arguments),
        Command::Get(arguments) => get::get(&arguments),
        Command::State(arguments) => state::state(&arguments),
        Command::Token(arguments) => token::token(&arguments),
        Command::DeadLetters(arguments) => dead_letters::dead_letters(&arguments),
    };
    let (code, error) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => (1, error),
        Err(Failure::Wrong(error)) => (2, error),
        Err(Failure::Unreachable(error)) => (3, error),
        Err(Failure::NotFound(error)) => (4, error),
    };
    print::complain(&format!("{error:#}"));
    ExitCode::from(code)
}
