//! Requests at a set rate, whose times count from when they were due.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gristmill_tests::load::{BODIES, Load};

/// One round at so many requests a second, shared out among connections that do not wait for each other. A time counts from the moment at which the
/// request was due, so that a server that falls behind is seen to.
pub fn at_rate(url: &str, body: &(impl Fn(usize) -> String + Sync), rate: f64, connections: usize, seconds: u64, load: &mut Load) {
    let (address, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).expect("a URL with a path");
    let per_connection = (rate * seconds as f64 / connections as f64) as usize;
    let started = Instant::now() + Duration::from_millis(50);
    let mut times: Vec<f64> = std::thread::scope(|scope| {
        let send = |connection: usize| {
            move || {
                let requests: Vec<Vec<u8>> = (0..BODIES).map(|number| request(address, path, &body(number))).collect();
                let mut stream = BufReader::new(TcpStream::connect(address).expect("the server listens"));
                stream.get_ref().set_nodelay(true).expect("a socket");
                let mut send_one = |number: usize| {
                    let due = started + Duration::from_secs_f64((number * connections + connection) as f64 / rate);
                    wait_until(due);
                    stream.get_mut().write_all(&requests[(number + connection) % BODIES]).expect("the server reads");
                    read_answer(&mut stream);
                    due.elapsed().as_secs_f64() * 1_000.0
                };
                (0..per_connection).map(&mut send_one).collect::<Vec<f64>>()
            }
        };
        let running: Vec<_> = (0..connections).map(|connection| scope.spawn(send(connection))).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("the connection holds")).collect()
    });
    let took = started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    load.rate.push(times.len() as f64 / took);
    load.p50_ms.push(times[times.len() / 2]);
    load.p99_ms.push(times[times.len() * 99 / 100]);
}

#[expect(clippy::disallowed_methods, reason = "a rate is kept by waiting for a moment, and for no condition")]
fn wait_until(due: Instant) {
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

fn request(address: &str, path: &str, body: &str) -> Vec<u8> {
    let head =
        format!("POST /{path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Reads one answer, which must be 200 and say how long it is.
fn read_answer(stream: &mut BufReader<TcpStream>) {
    let (mut length, mut line) = (None, String::new());
    stream.read_line(&mut line).expect("the server answers");
    assert!(line.contains(" 200 "), "{line}");
    loop {
        line.clear();
        stream.read_line(&mut line).expect("the server answers");
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse::<u64>().ok();
        }
    }
    let length = length.expect("an answer of known length");
    assert_eq!(std::io::copy(&mut stream.take(length), &mut std::io::sink()).expect("the answer ends"), length);
}
