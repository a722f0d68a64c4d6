//! A real host process: started on a free port in a temporary folder, killed or stopped by the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

/// How long anything in a test may take before it has failed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A running `gristmill run`.
pub struct Host {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: ureq::http::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

/// The program, built beside the tests.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    test.ancestors().nth(2).expect("tests are built into deps").join("gristmill")
}

/// Sends a signal, by its name without `SIG`, to a process that the test started.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().expect("kill runs");
    assert!(status.success());
}

/// Polls until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        std::thread::yield_now();
    }
}

impl Host {
    /// Starts a host with this configuration (`listen` must name port 0) and waits until it answers. Its log goes to `log` in the folder.
    pub fn start(folder: &Path, config: &str) -> anyhow::Result<Host> {
        Host::spawn_logging(Command::new(binary()), folder, config)
    }

    /// The same with its log elsewhere.
    pub fn start_logging_to(log: std::fs::File, folder: &Path, config: &str) -> anyhow::Result<Host> {
        Host::spawn(Command::new(binary()), log, folder, config)
    }

    /// The same as [`Host::start`] with more in its environment.
    pub fn start_with(environment: &[(&str, String)], folder: &Path, config: &str) -> anyhow::Result<Host> {
        let mut command = Command::new(binary());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Host::spawn_logging(command, folder, config)
    }

    /// The same as [`Host::start`], but the system does not kill it when it writes more to a file than it may: the write fails, as on a disk that is full.
    pub fn start_with_limits(folder: &Path, config: &str) -> anyhow::Result<Host> {
        let mut command = Command::new("sh");
        command.arg("-c").arg("trap '' XFSZ; exec \"$0\" \"$@\"").arg(binary());
        Host::spawn_logging(command, folder, config)
    }

    /// No file that it writes may have more bytes from now on; none for any number.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.child.id().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:unlimited")]).status().expect("prlimit runs");
        assert!(status.success());
    }

    fn spawn_logging(command: Command, folder: &Path, config: &str) -> anyhow::Result<Host> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"))?;
        Host::spawn(command, log, folder, config)
    }

    fn spawn(mut command: Command, log: std::fs::File, folder: &Path, config: &str) -> anyhow::Result<Host> {
        let path = folder.join("gristmill.toml");
        std::fs::write(&path, config)?;
        let mut child = command
            .arg("run")
            .arg("--config")
            .arg(&path)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("the program is not built; build the workspace first")?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let url = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("listening on ")?.1.trim().to_owned()));
        let Some(url) = url else {
            let status = child.wait()?;
            bail!("the host ended ({status}) before it listened:\n{}", std::fs::read_to_string(folder.join("log")).unwrap_or_default());
        };
        let agent = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).build().into();
        Ok(Host { child, url, agent })
    }

    /// Its address, `http://…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// `SIGKILL`, and waits until the process is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("a running child can be killed");
        self.child.wait().expect("a killed child can be waited for");
    }

    /// `SIGTERM`, and waits for a clean end.
    pub fn stop(mut self) {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(status.success());
        let status = self.child.wait().expect("the child can be waited for");
        assert!(status.success(), "the host ended with {status}");
    }

    /// Any request; without a body for `None`.
    pub fn send(&self, method: &str, path: &str, body: Option<&[u8]>) -> anyhow::Result<Answer> {
        self.send_with(&[], method, path, body)
    }

    /// Any request with these headers.
    pub fn send_with(&self, headers: &[(&str, &str)], method: &str, path: &str, body: Option<&[u8]>) -> anyhow::Result<Answer> {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body)?)?,
            None => self.agent.run(request.body(())?)?,
        };
        let body = response.body_mut().read_to_vec()?;
        Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
    }

    /// GET: status and JSON body.
    pub fn get(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let mut response = self.agent.get(format!("{}{path}", self.url)).call()?;
        Ok((response.status().as_u16(), response.body_mut().read_json()?))
    }

    /// GET of a text.
    pub fn text(&self, path: &str) -> anyhow::Result<String> {
        Ok(self.agent.get(format!("{}{path}", self.url)).call()?.body_mut().read_to_string()?)
    }

    /// POST of a JSON text: status and JSON body.
    pub fn post(&self, path: &str, body: &str) -> anyhow::Result<(u16, Value)> {
        let request = self.agent.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        let mut response = request.send(body)?;
        Ok((response.status().as_u16(), response.body_mut().read_json()?))
    }

    /// POST of a JSON text with an `Accept`: media type and bytes of an answer that is 200.
    pub fn post_accepting(&self, accept: &str, path: &str, body: &str) -> anyhow::Result<(String, Vec<u8>)> {
        let request = self.agent.post(format!("{}{path}", self.url)).header("accept", accept);
        let mut response = request.send(body)?;
        anyhow::ensure!(response.status() == 200, "{}", response.body_mut().read_to_string()?);
        let media_type = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        Ok((media_type, response.body_mut().read_to_vec()?))
    }

    /// PUT of bytes: status and JSON body.
    pub fn put(&self, path: &str, body: &[u8]) -> anyhow::Result<(u16, Value)> {
        let mut response = self.agent.put(format!("{}{path}", self.url)).send(body)?;
        Ok((response.status().as_u16(), response.body_mut().read_json()?))
    }

    /// DELETE: status and JSON body.
    pub fn delete(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let mut response = self.agent.delete(format!("{}{path}", self.url)).call()?;
        Ok((response.status().as_u16(), response.body_mut().read_json()?))
    }

    /// The sum over all label sets of one metric.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.text("/metrics").unwrap_or_default();
        let values = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Already gone after kill and stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
