//! Load on an HTTP interface from the same machine: `wrk`, as fast as it goes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::median;

/// What several rounds measured.
#[derive(Debug, Default, Clone)]
pub struct Load {
    /// Requests a second.
    pub rate: Vec<f64>,
    /// Median of the times of answers.
    pub p50_ms: Vec<f64>,
    /// Their 99th percentile.
    pub p99_ms: Vec<f64>,
}

impl Load {
    /// Medians over the rounds: the rate, p50 and p99.
    pub fn medians(&self) -> (f64, f64, f64) {
        (median(self.rate.clone()), median(self.p50_ms.clone()), median(self.p99_ms.clone()))
    }
}

/// What `wrk` sends: different bodies in turn, put together before the clock starts.
pub fn script(folder: &Path, name: &str, body: impl Fn(usize) -> String) -> PathBuf {
    let bodies: Vec<String> = (0..BODIES).map(|number| format!("[==[{}]==]", body(number))).collect();
    let text = format!(
        "local bodies = {{\n{}\n}}\nlocal requests = {{}}\nlocal next = 0\n\
         function init() for i, body in ipairs(bodies) do requests[i] = wrk.format('POST', nil, {{['content-type'] = 'application/json'}}, body) end end\n\
         function request() next = next % #requests + 1 return requests[next] end\n",
        bodies.join(",\n")
    );
    let path = folder.join(format!("{name}.lua"));
    std::fs::write(&path, text).expect("the script is written");
    path
}

/// How many bodies take turns.
pub const BODIES: usize = 64;

/// One round of `wrk` with one thread: each connection asks again as soon as it is answered.
pub fn wrk(script: &Path, url: &str, connections: usize, seconds: u64, load: &mut Load) {
    let done = Command::new("wrk")
        .args(["-t1", "-c", &connections.to_string(), "-d", &format!("{seconds}s"), "--timeout", "10s", "--latency", "-s"])
        .arg(script)
        .arg(url)
        .output()
        .expect("wrk is installed");
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let after = |mark: &str| text.lines().find_map(|line| line.trim().strip_prefix(mark)).map(str::trim).expect("wrk says it");
    load.rate.push(after("Requests/sec:").parse().expect("a rate"));
    load.p50_ms.push(milliseconds(after("50%")));
    load.p99_ms.push(milliseconds(after("99%")));
}

fn milliseconds(text: &str) -> f64 {
    let number = text.trim_end_matches(char::is_alphabetic).parse::<f64>().expect("a time");
    if text.ends_with("us") {
        number / 1_000.0
    } else if text.ends_with("ms") {
        number
    } else {
        number * 1_000.0
    }
}
